package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// firstPause and lastPause bound how long a call waits before what failed is
	// tried again.
	firstPause = 10 * time.Millisecond
	lastPause  = 250 * time.Millisecond
	// batchRequests and batchBytes bound what is sent to a server before its
	// answers are read.
	batchRequests = 1000
	batchBytes    = 4 << 20
	// scriptKeys bounds how many keys a script reads or changes at a time. The server does
	// nothing else meanwhile; it takes some microseconds for each.
	scriptKeys = 50
)

// request is a question about one key, and its answer.
type request struct {
	key       string
	script    *redis.Script // nil reads the key
	arguments []any         // of the script
	size      int           // about how many bytes it has, besides the key

	// answer is good if settled is true and err is nil. It is nil for a key that is
	// not there.
	answer  any
	settled bool
	err     error // the last one

	whole      bool // the server lacks the script
	moving     bool // the key is on its way to another server
	unanswered bool // it was sent at least once without an answer
}

// do has all requests answered. Those to one server are sent in their order.
func (r *Redis) do(ctx context.Context, requests []*request) error {
	caller := ctx
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, r.address.timeout)
	defer cancel()
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		r.attempt(ctx, requests)
		open := requests[:0:0]
		again := false // at once
		for _, request := range requests {
			switch {
			case request.settled && request.err != nil:
				return request.err
			case !request.settled:
				open = append(open, request)
				again = again || redis.HasErrorPrefix(request.err, "NOSCRIPT") || request.moving
			}
		}
		if len(open) == 0 {
			return nil
		}
		requests = open
		if again {
			continue
		}
		r.servers.lookAgain(ctx)
		// Not all at the same time.
		timer := time.NewTimer(pause/2 + rand.N(pause/2)) //nolint:gosec // Nobody gains by guessing it.
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			if err := caller.Err(); errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("no good answer in time: %w: %w", err, open[0].err)
			} else if err != nil {
				return err
			}
			return fmt.Errorf("no good answer within %s: %w", r.address.timeout, open[0].err)
		}
	}
}

// attempt sends each request once, to each server by itself.
func (r *Redis) attempt(ctx context.Context, requests []*request) {
	groups := map[*redis.Client][]*request{}
	for _, request := range requests {
		if request.moving {
			r.follow(ctx, request)
			continue
		}
		server, err := r.servers.of(ctx, request.key)
		if err != nil {
			before := request.unanswered
			request.take(nil, err)
			request.unanswered = before // It was not sent.
			continue
		}
		groups[server] = append(groups[server], request)
	}
	var sent sync.WaitGroup
	for server, group := range groups {
		sent.Go(func() {
			for len(group) > 0 {
				batch := firstBatch(group)
				group = group[len(batch):]
				if !send(ctx, server, r.commands(batch)) {
					return
				}
			}
		})
	}
	sent.Wait()
}

// command is what a server is sent, for one request or several.
type command struct {
	*redis.Cmd
	requests []*request
}

// commands returns what asks for the same as requests. Of a cluster, each key is
// asked for by itself.
func (r *Redis) commands(requests []*request) []command {
	var commands []command
	for len(requests) > 0 {
		first, count := requests[0], 1
		for first.many() && r.address.kind != KindCluster && count < min(scriptKeys, len(requests)) &&
			requests[count].script == first.script && requests[count].whole == first.whole {
			count++
		}
		commands = append(commands, newCommand(requests[:count]))
		requests = requests[count:]
	}
	return commands
}

// many reports whether one script can answer several such requests.
func (r *request) many() bool { return r.script == swapScript || r.script == changedScript }

// newCommand returns what asks for requests, which are of one kind.
func newCommand(requests []*request) command {
	first := requests[0]
	if first.script == nil {
		return command{redis.NewCmd(context.Background(), "get", first.key), requests}
	}
	words := []any{"evalsha", first.script.Hash(), len(requests)}
	if first.whole {
		words = []any{"eval", scriptText(first.script), len(requests)}
	}
	for _, request := range requests {
		words = append(words, request.key)
	}
	for _, request := range requests {
		words = append(words, request.arguments...)
	}
	return command{redis.NewCmd(context.Background(), words...), requests}
}

func scriptText(script *redis.Script) string {
	switch script {
	case swapScript:
		return swapText
	case changedScript:
		return changedText
	}
	return clockText
}

// take hands the answer on to those who asked, and says whether the server is worth
// being asked more. failure is what is wrong if there is no answer.
func (c command) take(failure error) bool {
	answer, err := c.Result()
	if err == nil && answer == nil {
		err = failure // The connection failed before the answer was read.
	}
	answers := []any{answer}
	if list, ok := answer.([]any); ok && c.requests[0].script != nil {
		answers = list
	}
	if err == nil && len(answers) != len(c.requests) {
		err = fmt.Errorf("got %d answers to %d questions", len(answers), len(c.requests))
	}
	alive := true
	for i, request := range c.requests {
		if err != nil {
			alive = request.take(nil, err) && alive
		} else {
			alive = request.take(answers[i], nil) && alive
		}
	}
	return alive
}

// firstBatch returns the first requests that are sent together.
func firstBatch(group []*request) []*request {
	bytes := 0
	for i, request := range group {
		bytes += len(request.key) + request.size
		if i > 0 && (bytes > batchBytes || i >= batchRequests) {
			return group[:i]
		}
	}
	return group
}

// send sends commands to a server, and says whether there is any use in sending it
// more.
func send(ctx context.Context, server *redis.Client, commands []command) bool {
	pipeline := server.Pipeline()
	for _, command := range commands {
		_ = pipeline.Process(ctx, command.Cmd) // It is only kept for Exec.
	}
	_, failure := pipeline.Exec(ctx)
	alive := true
	for _, command := range commands {
		alive = command.take(failure) && alive
	}
	return alive
}

// follow asks the server that a key is on its way to.
func (r *Redis) follow(ctx context.Context, asked *request) {
	// Within, it may be sent twice, so a refusal is no certain one.
	asked.unanswered = true
	asked.moving = false
	command := newCommand([]*request{asked})
	command.take(r.servers.follow(ctx, command.Cmd))
}

// take takes the answer to a request, or what went wrong. It says whether the
// server is worth being asked more.
func (r *request) take(answer any, err error) bool {
	r.answer, r.err, r.settled = answer, err, false
	var told redis.Error
	var distrusted *tls.CertificateVerificationError
	switch {
	case err == nil:
		r.settled = true
	case errors.Is(err, redis.Nil):
		r.answer, r.err, r.settled = nil, nil, true
	case errors.Is(err, redis.ErrClosed):
		r.err, r.settled = ErrClosed, true
	case errors.As(err, &told):
		r.refused(told.Error())
	case errors.As(err, &distrusted):
		r.settled = true // It will not pass within a call.
	default:
		r.unanswered = r.unanswered || !neverSent(err)
		return false
	}
	return true
}

// noEntry is the answer to reading a key under which there is no string, and so
// nothing that a store has put there.
type noEntry struct{}

// passing are the first words of errors that pass by themselves, of requests that
// had no effect.
var passing = []string{
	"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "MOVED", "NOREPLICAS", "ERR max number of clients reached",
}

// refused takes an error that the server told.
func (r *request) refused(message string) {
	switch {
	case strings.HasPrefix(message, "WRONGTYPE") && r.script == nil:
		r.answer, r.err, r.settled = noEntry{}, nil, true
		return
	case strings.HasPrefix(message, "NOSCRIPT"):
		r.whole = true
		return
	case strings.HasPrefix(message, "ASK "):
		r.moving = true
		return
	}
	for _, word := range passing {
		if strings.HasPrefix(message, word) {
			return
		}
	}
	r.settled = true
}

// neverSent says of an error of the network that the server has seen nothing.
func neverSent(err error) bool {
	var operation *net.OpError
	return errors.As(err, &operation) && operation.Op == "dial" || errors.Is(err, redis.ErrPoolTimeout)
}
