// Package faults breaks everything around gateways, and checks after each request
// that they go on deciding by their last good table, and that the newest one
// comes into force once the fault is over.
//
// A gateway is one middleware with sync settings of its own; many of them live in
// one host. That is a real Traefik, or a process that runs the same plugin
// compiled, which is much faster. What gateways ask goes over wires, which can be
// cut, to a front, which can lie, and from there to whoever knows the truth: a
// control plane, or a test.
//
//	version_test.go   what tables say, and who is to be admitted by them
//	truth_test.go     an endpoint that serves the tables of a test
//	front_test.go     what stands between gateways and the truth
//	lies_test.go      every answer that must not be believed
//	cuts_test.go      answers that end early, at each byte
//	reports_test.go   reports that get no answer, or a lie, and limits that are shared
//	oracle_test.go    which answers of gateways are right
//	host_test.go      Traefik, and the compiled plugin
//	world_test.go     a control plane and its gateways, and what can happen to them
//	schedule_test.go  random orders of that
package faults

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

var (
	seed      = flag.Uint64("seed", 20261121, "seed of the generated cases")
	schedules = flag.Int("schedules", 100, "how many schedules run against the compiled plugin")
	inTraefik = flag.Int("schedules-in-traefik", 30, "how many schedules run in Traefik")
	cuts      = flag.Int("cuts", 40, "at how many places answers of each kind are cut; 0 for all")
	only      = flag.Int("schedule", -1, "run only the schedule of this number")
	serve     = flag.String("compiled-host", "", "not for tests: serve the gateways of this file")
)

// Binaries that the tests start.
var traefikBinary, tollgateBinary string

func TestMain(m *testing.M) {
	flag.Parse()
	if *serve != "" {
		fmt.Fprintln(os.Stderr, serveCompiled(*serve))
		os.Exit(1)
	}
	if err := build(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func build(ctx context.Context) (err error) {
	version := stack.TraefikVersion
	if v := os.Getenv("TRAEFIK_VERSION"); v != "" {
		version = v
	}
	logf := func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	if traefikBinary, err = stack.BuildTraefik(ctx, version, logf); err != nil {
		return err
	}
	tollgateBinary, err = stack.BuildTollgate(ctx)
	return err
}
