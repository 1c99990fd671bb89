package store

import (
	"context"
	"time"
)

// Within returns a context for calls that do not end because those have gone who
// asked for them: it ends after a time, or when the deadline of ctx has come, but not
// when ctx is canceled.
func Within(ctx context.Context, most time.Duration) (context.Context, context.CancelFunc) {
	until := time.Now().Add(most)
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(until) {
		until = deadline
	}
	return context.WithDeadline(context.WithoutCancel(ctx), until)
}
