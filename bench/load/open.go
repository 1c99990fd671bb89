package load

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Latency is what one request took, from when it was due until its answer was
// there.
type Latency struct {
	Due  time.Time
	Took time.Duration
	// Late is how much of it passed before the request was sent: because all
	// connections waited for answers, or because this program was late.
	Late time.Duration
}

// Open sends requests at a fixed rate, whether the answers come or not, until
// ctx ends. A server that stalls therefore makes all requests wait that were due
// meanwhile, and they count with their whole wait: nothing is omitted.
//
// It returns the latencies in the order in which the requests were due.
func Open(ctx context.Context, t Target, connections int, perSecond float64) ([]Latency, error) {
	clients, err := dialAll(t.Address, connections)
	if err != nil {
		return nil, err
	}
	defer closeAll(clients)
	o := &open{target: t, free: make(chan *pending, connections)}
	var readers sync.WaitGroup
	all := make([]*pending, connections)
	for i, c := range clients {
		p := &pending{client: c}
		all[i] = p
		o.free <- p
		readers.Go(func() { o.read(p) })
	}
	o.dispatch(ctx, perSecond)
	for range connections { // All answers are there.
		<-o.free
	}
	o.done.Store(true)
	closeAll(clients)
	readers.Wait()

	var latencies []Latency
	for _, p := range all {
		if p.err != nil {
			return nil, p.err
		}
		latencies = append(latencies, p.latencies...)
	}
	slices.SortFunc(latencies, func(a, b Latency) int { return a.Due.Compare(b.Due) })
	return latencies, nil
}

type open struct {
	target Target
	free   chan *pending
	// failed ends the dispatching, and done says that all answers are there.
	failed, done atomic.Bool
}

// pending is a connection with the request that it waits for.
type pending struct {
	client    *client
	latencies []Latency
	err       error

	mu sync.Mutex
	// due is zero while nothing is under way.
	due, sent time.Time
	// broken says that nobody reads any more.
	broken bool
}

// dispatch sends what is due. It holds on to its thread, because it sleeps in
// the kernel: timers of Go are late by up to a millisecond.
func (o *open) dispatch(ctx context.Context, perSecond float64) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	sharpen()
	gap := time.Duration(float64(time.Second) / perSecond)
	begin := time.Now()
	for n := uint64(0); ctx.Err() == nil && !o.failed.Load(); n++ {
		due := begin.Add(time.Duration(n) * gap)
		if wait := time.Until(due); wait > 0 {
			nanosleep(wait)
		}
		p := <-o.free
		p.mu.Lock()
		broken := p.broken
		if !broken {
			p.due, p.sent = due, time.Now()
		}
		p.mu.Unlock()
		if broken {
			o.free <- p
			return
		}
		if err := p.client.send(o.target, n); err != nil {
			p.client.Close() // Its reader sees that, and tells.
		}
	}
}

// read takes the answers of one connection, until that is closed.
func (o *open) read(p *pending) {
	for {
		_, err := p.client.r.Peek(1)
		now := time.Now()
		p.mu.Lock()
		due, sent := p.due, p.sent
		p.due = time.Time{}
		if err == nil {
			err = p.client.receive(o.target)
		}
		p.broken = err != nil
		p.mu.Unlock()
		if err != nil {
			if !o.done.Load() {
				p.err = fmt.Errorf("at a fixed rate: %w", err)
				o.failed.Store(true)
			}
			if !due.IsZero() {
				o.free <- p
			}
			return
		}
		p.latencies = append(p.latencies, Latency{Due: due, Took: now.Sub(due), Late: sent.Sub(due)})
		o.free <- p
	}
}
