// Command buildtraefik puts the Traefik of the given version, such as v3.6.12,
// into .build unless it is there already.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

func main() {
	version := stack.TraefikVersion
	if len(os.Args) > 1 {
		version = os.Args[1]
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	_, err := stack.BuildTraefik(ctx, version, func(format string, args ...any) {
		fmt.Printf(format+"\n", args...)
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		stop()
		os.Exit(1)
	}
}
