package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"time"
)

// someKeys is how many keys there are where their number does not matter.
const someKeys = 100

// revoke measures how long it takes from a manifest that is saved until the last
// gateway refuses.
func (b *bench) revoke(ctx context.Context) (_ *revocation, err error) {
	b.say("%d gateways, %d changes", b.gateways, b.changes)
	p, err := b.startPlane(ctx, someKeys, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	f, err := startFleet(ctx, p, b.gateways)
	if err != nil {
		return nil, err
	}
	defer f.stop()
	r := &revocation{Gateways: b.gateways, Changes: b.changes, Keys: someKeys}
	for n := range b.changes {
		// Some changes follow each other at once, and others find all at rest.
		if err := sleep(ctx, rand.N(time.Second)); err != nil {
			return nil, err
		}
		key := n / 2 % someKeys
		want := n%2 == 0
		saved, err := p.suspend(key, want)
		if err != nil {
			return nil, err
		}
		last, err := f.await(ctx, suspended(key, want))
		if err != nil {
			return nil, err
		}
		r.Milliseconds = append(r.Milliseconds, milliseconds(last.Sub(saved)))
	}
	return r, nil
}

// wait measures what gateways cost a control plane while nothing changes, with
// and without TLS.
func (b *bench) wait(ctx context.Context) ([]waiting, error) {
	var all []waiting
	for _, secure := range []bool{false, true} {
		w, err := b.waitOver(ctx, secure)
		if err != nil {
			return nil, err
		}
		all = append(all, *w)
	}
	return all, nil
}

func (b *bench) waitOver(ctx context.Context, secure bool) (_ *waiting, err error) {
	b.say("%d gateways that wait for %s, TLS: %v", b.waiting, b.window, secure)
	p, err := b.startPlane(ctx, someKeys, secure)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	before, err := used(p.PID())
	if err != nil {
		return nil, err
	}
	f, err := startFleet(ctx, p, b.waiting)
	if err != nil {
		return nil, err
	}
	defer f.stop()
	if err := p.awaitWaiting(ctx, b.waiting); err != nil {
		return nil, err
	}
	settled, err := used(p.PID())
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := sleep(ctx, b.window); err != nil {
		return nil, err
	}
	after, err := used(p.PID())
	if err != nil {
		return nil, err
	}
	if line := f.failure.Load(); line != nil {
		return nil, errors.New("a gateway said: " + line.(string))
	}
	return &waiting{
		Gateways: b.waiting, TLS: secure, Seconds: b.window.Seconds(),
		CPU:             float64(after.cpu-settled.cpu) / float64(time.Since(begin)),
		BytesPerGateway: (after.resident - before.resident) / int64(b.waiting),
	}, nil
}

// change measures what one changed key costs among many, and what all of them
// cost when they are loaded.
func (b *bench) change(ctx context.Context) (_ *change, err error) {
	b.say("a control plane with %d keys", b.keys)
	p, err := b.startPlane(ctx, b.keys, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	plane, err := used(p.PID())
	if err != nil {
		return nil, err
	}
	own, err := used(os.Getpid())
	if err != nil {
		return nil, err
	}
	b.say("one gateway")
	f, err := startFleet(ctx, p, 1)
	if err != nil {
		return nil, err
	}
	defer f.stop()
	if err := p.awaitWaiting(ctx, 1); err != nil {
		return nil, err
	}
	loaded, err := used(os.Getpid())
	if err != nil {
		return nil, err
	}
	c := &change{Keys: b.keys, Changes: b.keyChanges, Whole: cost{
		Bytes: f.received.Load(), Gateway: milliseconds(loaded.cpu - own.cpu), ControlPlane: milliseconds(plane.cpu),
	}, Resident: plane.resident}

	b.say("%d changes of one key", b.keyChanges)
	var sum cost
	for range b.keyChanges {
		if err := sleep(ctx, time.Second); err != nil {
			return nil, err
		}
		key := rand.IntN(b.keys)
		received := f.received.Load()
		own, err1 := used(os.Getpid())
		plane, err2 := used(p.PID())
		saved, err3 := p.suspend(key, true)
		last, err4 := f.await(ctx, suspended(key, true))
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			return nil, err
		}
		if err := p.awaitWaiting(ctx, 1); err != nil {
			return nil, err
		}
		ownAfter, err1 := used(os.Getpid())
		planeAfter, err2 := used(p.PID())
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		sum.Bytes += f.received.Load() - received
		sum.Gateway += milliseconds(ownAfter.cpu - own.cpu)
		sum.ControlPlane += milliseconds(planeAfter.cpu - plane.cpu)
		c.Milliseconds = append(c.Milliseconds, milliseconds(last.Sub(saved)))
	}
	changes := float64(b.keyChanges)
	c.One = cost{Bytes: sum.Bytes / int64(b.keyChanges), Gateway: sum.Gateway / changes, ControlPlane: sum.ControlPlane / changes}
	return c, nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
