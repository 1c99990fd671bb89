package stack

import (
	"context"
	"fmt"
	"time"
)

// pause is how long Until waits between two looks.
const pause = 20 * time.Millisecond

// Until calls look until it returns nil, at most for the given time, and
// returns its last error if it never does. The error says what was waited for.
func Until(ctx context.Context, what string, atMost time.Duration, look func() error) error {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		err := look()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s (%w): %w", what, ctx.Err(), err)
		case <-ticker.C:
		}
	}
}
