package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/tollgate-apim/tollgate/feed"
	"github.com/tollgate-apim/tollgate/table"
)

// patience is how long anything may take that happens by itself.
const patience = time.Minute

// activation is a table that came into force in a gateway.
type activation struct {
	gateway int
	at      time.Time
	table   *table.Table
}

// fleet is some gateways of a control plane.
type fleet struct {
	feeds       []*feed.Feed
	activations chan activation
	received    atomic.Int64 // bytes
	failure     atomic.Value // the first line that told of one
}

// startFleet starts gateways, and returns when all have a table.
func startFleet(ctx context.Context, p *plane, gateways int) (*fleet, error) {
	f := &fleet{activations: make(chan activation, 4*gateways)}
	for i := range gateways {
		// A fleet does not start in one moment.
		if err := sleep(ctx, 2*time.Millisecond); err != nil {
			f.stop()
			return nil, err
		}
		client := &http.Client{Transport: newTransport(p.trust, &f.received)}
		f.feeds = append(f.feeds, feed.Start(feed.Config{
			Endpoints: []string{p.URL}, Token: p.Token,
			Interval: 10 * time.Second, Timeout: patience, Wait: 30 * time.Second,
			Client:    func() *http.Client { return client },
			Activated: func(s *feed.Snapshot) { f.activations <- activation{i, time.Now(), s.Table} },
			Report: func(line string, failed bool) {
				if failed {
					f.failure.CompareAndSwap(nil, line)
				}
			},
		}, nil))
	}
	_, err := f.await(ctx, func(*table.Table) bool { return true })
	if err != nil {
		f.stop()
		return nil, err
	}
	return f, nil
}

// await waits until a table that is good is in force in each gateway, and returns
// when that was so in the last of them.
func (f *fleet) await(ctx context.Context, good func(*table.Table) bool) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	missing := make(map[int]bool, len(f.feeds))
	for i := range f.feeds {
		missing[i] = true
	}
	var last time.Time
	for len(missing) > 0 {
		select {
		case a := <-f.activations:
			if missing[a.gateway] && good(a.table) {
				delete(missing, a.gateway)
				last = a.at
			}
		case <-ctx.Done():
			return last, fmt.Errorf("waiting for %d of %d gateways: %w; a gateway said: %v", len(missing), len(f.feeds), ctx.Err(), f.failure.Load())
		}
	}
	if line := f.failure.Load(); line != nil {
		return last, fmt.Errorf("a gateway said: %v", line)
	}
	return last, nil
}

// stop ends the gateways.
func (f *fleet) stop() {
	for _, g := range f.feeds {
		g.Stop()
	}
}

// suspended returns what tells a table in which a key is suspended, or is not.
func suspended(key int, want bool) func(*table.Table) bool {
	name := digest(key)
	return func(t *table.Table) bool {
		holders := table.Holders(t, name)
		return len(holders) == 1 && holders[0].Suspended == want
	}
}

// newTransport returns a transport with connections of its own, which adds what
// it receives to received, unless that is nil.
func newTransport(trust *x509.CertPool, received *atomic.Int64) *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	t := &http.Transport{
		// What arrives is counted as it crossed the network. One that decodes gzip
		// by itself is what gateways have.
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil || received == nil {
				return conn, err
			}
			return &countingConn{conn, received}, nil
		},
	}
	if trust != nil {
		t.TLSClientConfig = &tls.Config{RootCAs: trust, MinVersion: tls.VersionTLS12}
	}
	return t
}

type countingConn struct {
	net.Conn
	received *atomic.Int64
}

// Read counts what is read.
func (c *countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.received.Add(int64(n))
	return n, err
}

// awaitWaiting waits until the control plane holds a request of each gateway.
func (p *plane) awaitWaiting(ctx context.Context, gateways int) error {
	for end := time.Now().Add(patience); ; {
		n, err := p.waiting(ctx)
		if err != nil {
			return err
		}
		if n == gateways {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d of %d gateways wait", n, gateways)
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return errors.New("interrupted")
	case <-time.After(d):
		return nil
	}
}
