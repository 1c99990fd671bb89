// Package reload reads small files, such as keys and certificates, and reads them
// again when they change.
package reload

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"
)

// MaxBytes is the size above which a file is taken for another one than is meant.
const MaxBytes = 1 << 20

// Interval is how often files are looked at. What is found is used once it has
// been the same twice in a row, so that what is being written is not taken for
// complete: a change has its effect within two intervals.
const Interval = 2 * time.Second

// Source is what is read from one or more files that belong together.
type Source struct {
	// Name is what logs and errors call it, such as the flag that names the files.
	Name  string
	Files []string
	// Use puts what the files hold in force, or tells what is wrong with it and
	// leaves things as they are. It is told the files' contents in their order,
	// and never called twice at once. Its errors must not tell secrets.
	Use func(contents [][]byte) error
}

// Follower follows sources. The last good content of each stays in force,
// whatever becomes of its files.
type Follower struct {
	log     *slog.Logger
	sources []*followed
}

// followed is a source, and what is known of it.
type followed struct {
	Source
	found string // the last time, in short
	done  string // what was last put in force, or told to be wrong
}

// Start reads all sources and uses them. It returns all errors at once.
func Start(log *slog.Logger, sources ...Source) (*Follower, error) {
	f := &Follower{log: log}
	var failures []error
	for _, source := range sources {
		s := &followed{Source: source}
		f.sources = append(f.sources, s)
		contents, err := s.read()
		s.found = summary(contents, err)
		s.done = s.found
		if err == nil {
			err = s.Use(contents)
		}
		if err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", s.Name, err))
		}
	}
	return f, errors.Join(failures...)
}

// Run looks at the files each Interval, until ctx ends. It never fails.
func (f *Follower) Run(ctx context.Context) error {
	ticker := time.NewTicker(Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		for _, s := range f.sources {
			f.look(s)
		}
	}
}

// look reads a source, and uses what it finds if that has changed and is not
// changing any more.
func (f *Follower) look(s *followed) {
	contents, err := s.read()
	before := s.found
	s.found = summary(contents, err)
	if s.found != before || s.found == s.done {
		return
	}
	s.done = s.found
	if err == nil {
		err = s.Use(contents)
	}
	if err != nil {
		f.log.Error("changed files cannot be used: what was read before stays in force", "source", s.Name, "error", err)
		return
	}
	f.log.Info("changed files read again", "source", s.Name)
}

func (s *followed) read() ([][]byte, error) {
	contents := make([][]byte, len(s.Files))
	for i, file := range s.Files {
		var err error
		if contents[i], err = ReadFile(file); err != nil {
			return nil, err
		}
	}
	return contents, nil
}

// ReadFile is os.ReadFile for files of at most MaxBytes.
func ReadFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, MaxBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("%s has more than %d bytes", path, MaxBytes)
	}
	return data, nil
}

// summary tells contents apart without keeping them.
func summary(contents [][]byte, err error) string {
	if err != nil {
		return err.Error()
	}
	whole := sha256.New()
	for _, content := range contents {
		sum := sha256.Sum256(content)
		whole.Write(sum[:])
	}
	return hex.EncodeToString(whole.Sum(nil))
}
