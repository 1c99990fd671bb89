package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/tollgate-apim/tollgate/bench/load"
	"github.com/tollgate-apim/tollgate/bench/record"
	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// profileSeconds is how long a profile is taken.
const profileSeconds = 10

// profile takes a CPU profile of Traefik under one row, and prints its top.
//
// A Traefik that can be profiled also records where goroutines block, which
// costs it time: look past runtime.saveblockevent.
func profile(ctx context.Context, o options, to string) (err error) {
	b := &bench{plan: quickPlan, say: record.Say()}
	foreigns, err := foreigns(o.plugins)
	if err != nil {
		return err
	}
	binary, err := stack.BuildTraefik(ctx, stack.TraefikVersion, b.say)
	if err != nil {
		return err
	}
	var measured []*row
	if b.gateway, measured, err = startGateway(ctx, gatewayOptions{binary: binary, foreigns: foreigns, debug: true}); err != nil {
		return err
	}
	defer func() {
		if stopped := b.gateway.stop(); err == nil {
			err = stopped
		}
	}()
	picked, err := pick(measured, o.profile)
	if err != nil {
		return err
	}
	if _, _, err := b.time(picked[0], time.Second); err != nil { // To warm up.
		return err
	}
	b.say("profiling %s for %d seconds", o.profile, profileSeconds)
	loop, err := load.StartClosed(picked[0].target(b.gateway.addresses), b.connections, b.sent)
	if err != nil {
		return err
	}
	taken := b.gateway.save(ctx, fmt.Sprintf("/debug/pprof/profile?seconds=%d", profileSeconds), to)
	if err := firstOf(loop.Stop(), taken); err != nil {
		return err
	}
	b.say("written to %s", to)
	for _, order := range []string{"-flat", "-cum"} {
		top := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", order, "-nodecount=45", to)
		top.Stdout, top.Stderr = os.Stdout, os.Stderr
		if err := top.Run(); err != nil {
			return fmt.Errorf("go tool pprof: %w", err)
		}
	}
	return nil
}

// save writes what Traefik's own API answers to a file.
func (g *gateway) save(ctx context.Context, path, to string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	data, err := g.Admin(ctx, path)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}
