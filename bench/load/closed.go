package load

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Closed is a closed loop: each connection sends its next request when the
// answer to the one before has come. It finds out how much a server can do.
type Closed struct {
	stop    atomic.Bool
	next    atomic.Uint64
	workers sync.WaitGroup
	clients []*client
	// counts has the answers of each connection, each on a cache line of its own.
	counts []struct {
		atomic.Uint64
		_ [56]byte
	}

	mu   sync.Mutex
	errs []error
}

// StartClosed starts a closed loop over so many connections. Its first request
// has the number first.
func StartClosed(t Target, connections int, first uint64) (*Closed, error) {
	clients, err := dialAll(t.Address, connections)
	if err != nil {
		return nil, err
	}
	c := &Closed{clients: clients}
	c.next.Store(first)
	c.counts = make([]struct {
		atomic.Uint64
		_ [56]byte
	}, connections)
	for i, client := range clients {
		c.workers.Go(func() { c.run(client, t, i) })
	}
	return c, nil
}

func (c *Closed) run(client *client, t Target, i int) {
	for !c.stop.Load() {
		err := client.SetDeadline(time.Now().Add(patience))
		// A deadline is for many requests: setting one is not free.
		for range 1000 {
			if err != nil || c.stop.Load() {
				break
			}
			if err = client.send(t, c.next.Add(1)-1); err == nil {
				err = client.receive(t)
			}
			if err == nil {
				c.counts[i].Add(1)
			}
		}
		if err != nil {
			c.mu.Lock()
			c.errs = append(c.errs, err)
			c.mu.Unlock()
			c.stop.Store(true)
		}
	}
}

// Count returns how many answers came so far.
func (c *Closed) Count() uint64 {
	total := uint64(0)
	for i := range c.counts {
		total += c.counts[i].Load()
	}
	return total
}

// Stop ends the loop after the answers that are under way. It returns an error
// if any answer was not as it must be.
func (c *Closed) Stop() error {
	c.stop.Store(true)
	c.workers.Wait()
	closeAll(c.clients)
	if len(c.errs) > 0 {
		return fmt.Errorf("on %d of %d connections: %w", len(c.errs), len(c.clients), c.errs[0])
	}
	return nil
}

// Send sends so many requests in a closed loop. The first has the number first.
func Send(t Target, connections int, first, n uint64) error {
	c, err := StartClosed(t, connections, first)
	if err != nil {
		return err
	}
	for c.Count() < n && !c.stop.Load() {
		time.Sleep(time.Millisecond)
	}
	return c.Stop()
}
