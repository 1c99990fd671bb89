package main

import (
	"errors"
	"os"
	"strings"
	"time"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// The logs' names in the demo's folder.
const (
	controlPlaneLog = "control-plane.log"
	traefikLog      = "traefik.log"
)

// logInterval is how often new lines are written.
const logInterval = 200 * time.Millisecond

// logFile is a file to which the lines of a log are written as they come.
type logFile struct {
	log     *stack.Log
	file    *os.File
	written int // lines
	ended   chan struct{}
	done    chan error
}

// keepLog writes a log to a file, in place of what was there, until stop.
func keepLog(log *stack.Log, path string) (*logFile, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	f := &logFile{log: log, file: file, ended: make(chan struct{}), done: make(chan error, 1)}
	if err := f.write(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	go func() { f.done <- f.follow() }()
	return f, nil
}

// stop writes what is left and closes the file.
func (f *logFile) stop() error {
	close(f.ended)
	return errors.Join(<-f.done, f.file.Close())
}

func (f *logFile) follow() error {
	tick := time.NewTicker(logInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := f.write(); err != nil {
				return err
			}
		case <-f.ended:
			return f.write()
		}
	}
}

// write writes the lines that are new.
func (f *logFile) write() error {
	lines := f.log.Since(f.written)
	if len(lines) == 0 {
		return nil
	}
	f.written += len(lines)
	_, err := f.file.WriteString(strings.Join(lines, "\n") + "\n")
	return err
}
