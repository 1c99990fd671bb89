package stack

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Log keeps the lines that a process writes. It may be used by several
// goroutines at once.
type Log struct {
	mu    sync.Mutex
	lines []string
	rest  []byte
}

// Write takes whatever the process wrote, be it part of a line or many.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		l.lines = append(l.lines, string(line))
		l.rest = rest
	}
}

// Len returns how many lines there are, for use with Since.
func (l *Log) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.lines)
}

// Since returns the lines after the first n.
func (l *Log) Since(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines[n:]...)
}

// Tail returns the last n lines as text, to be shown when something failed.
func (l *Log) Tail(n int) string {
	lines := l.Since(0)
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}

// Find returns the first line after the first n that holds all the words.
func (l *Log) Find(n int, words ...string) (string, bool) {
	for _, line := range l.Since(n) {
		if containsAll(line, words) {
			return line, true
		}
	}
	return "", false
}

// Await waits for a line after the first n that holds all the words.
func (l *Log) Await(ctx context.Context, n int, atMost time.Duration, words ...string) (string, error) {
	var line string
	err := Until(ctx, "a line of the log", atMost, func() error {
		found, ok := l.Find(n, words...)
		if !ok {
			return fmt.Errorf("no line with %q", words)
		}
		line = found
		return nil
	})
	return line, err
}

func containsAll(line string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(line, word) {
			return false
		}
	}
	return true
}
