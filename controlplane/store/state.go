package store

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// A state file has lines of JSON: a stateHead, a stateEntry for each entry, and a
// stateEnd.

const (
	// stateFormat is what files say that can be read here.
	stateFormat = "tollgate-state/1"
	// maxLine is the length of the longest line: of a value of which each byte
	// is escaped, and the rest.
	maxLine = 2*MaxDataBytes + 6*MaxKeyBytes + 1<<10
)

// state is what a file keeps of a Memory.
type state struct {
	time    time.Time // the store's when it was kept
	version int64     // the last that was given
	entries map[string]entry
}

type stateHead struct {
	Format  string    `json:"format"`
	Time    time.Time `json:"time"`
	Version int64     `json:"version"`
	Entries int       `json:"entries"`
}

type stateEntry struct {
	Key     string     `json:"key"`
	Version int64      `json:"version"`
	Until   *time.Time `json:"until,omitempty"`
	// One of them: Text if the value can be read.
	Text   *string `json:"text,omitempty"`
	Base64 []byte  `json:"base64,omitempty"`
}

type stateEnd struct {
	SHA256 string `json:"sha256"` // of all lines before, in hexadecimal
}

// write writes s to w.
func (s state) write(w io.Writer) error {
	sum := sha256.New()
	buffered := bufio.NewWriterSize(io.MultiWriter(w, sum), 1<<16)
	lines := json.NewEncoder(buffered)
	lines.SetEscapeHTML(false)
	if err := lines.Encode(stateHead{stateFormat, s.time, s.version, len(s.entries)}); err != nil {
		return err
	}
	for key, e := range s.entries {
		line := stateEntry{Key: key, Version: e.Version}
		if !e.until.IsZero() {
			line.Until = &e.until
		}
		if text := string(e.Data); readable(text) {
			line.Text = &text
		} else {
			line.Base64 = e.Data
		}
		if err := lines.Encode(line); err != nil {
			return err
		}
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(stateEnd{hex.EncodeToString(sum.Sum(nil))})
}

// readable says whether a value can stand in a file as it is.
func readable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == '\u2028' || r == '\u2029' })
}

// readState reads what write wrote. Its errors say what is wrong with the file.
func readState(r io.Reader) (state, error) {
	lines := stateLines{in: bufio.NewReaderSize(r, 1<<16), sum: sha256.New()}
	var head stateHead
	switch err := lines.next(&head); {
	case errors.Is(err, io.EOF):
		return state{}, errors.New("is empty")
	case err != nil || !strings.HasPrefix(head.Format, "tollgate-state/"):
		return state{}, errors.New("is no state file of tollgate")
	case head.Format != stateFormat:
		return state{}, fmt.Errorf("has the format %q, can read %q", head.Format, stateFormat)
	case head.Version < 0 || head.Entries < 0 || head.Entries > maxEntries:
		return state{}, fmt.Errorf("line 1: version %d and %d entries, must be 0 or more, and at most %d entries", head.Version, head.Entries, maxEntries)
	}
	s := state{time: head.Time, version: head.Version, entries: map[string]entry{}}
	for range head.Entries {
		if err := lines.entry(&s); err != nil {
			return state{}, lines.wrong(err)
		}
	}
	want := hex.EncodeToString(lines.sum.Sum(nil))
	var end stateEnd
	if err := lines.next(&end); err != nil {
		return state{}, lines.wrong(err)
	}
	if end.SHA256 != want {
		return state{}, fmt.Errorf("line %d: SHA-256 %q, but the lines before have %s: it was changed or damaged", lines.number, end.SHA256, want)
	}
	if _, err := lines.in.ReadByte(); !errors.Is(err, io.EOF) {
		return state{}, fmt.Errorf("goes on after its last line, %d", lines.number)
	}
	return s, nil
}

// stateLines are the lines of a file that is being read.
type stateLines struct {
	in     *bufio.Reader
	sum    hash.Hash
	number int
	line   []byte
}

// next decodes the next line. Its error is io.EOF at the end of the file.
func (l *stateLines) next(into any) error {
	l.number++
	l.line = l.line[:0]
	for {
		part, err := l.in.ReadSlice('\n')
		l.line = append(l.line, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull) && len(l.line) <= maxLine:
			continue
		case errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("is longer than %d bytes", maxLine)
		case errors.Is(err, io.EOF) && len(l.line) > 0:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
		break
	}
	l.sum.Write(l.line)
	d := json.NewDecoder(bytes.NewReader(l.line))
	d.DisallowUnknownFields()
	if err := d.Decode(into); errors.Is(err, io.EOF) {
		return errors.New("is an empty line")
	} else if err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("has more than one value")
	}
	return nil
}

// entry adds the entry of the next line to s.
func (l *stateLines) entry(s *state) error {
	var e stateEntry
	if err := l.next(&e); err != nil {
		return err
	}
	data := e.Base64
	if e.Text != nil {
		data = []byte(*e.Text)
	}
	_, twice := s.entries[e.Key]
	switch {
	case e.Text != nil && e.Base64 != nil || data == nil:
		return errors.New("must have one of text and base64")
	case twice:
		return fmt.Errorf("key %q is there twice", e.Key)
	case e.Version < 1 || e.Version > s.version:
		return fmt.Errorf("version %d, must be from 1 to %d", e.Version, s.version)
	case len(data) > MaxDataBytes:
		return fmt.Errorf("%d bytes, must be at most %d", len(data), MaxDataBytes)
	}
	if err := checkKey(e.Key); err != nil {
		return err
	}
	kept := entry{Value: Value{Data: data, Version: e.Version}}
	if e.Until != nil {
		kept.until = *e.Until
	}
	s.entries[e.Key] = kept
	return nil
}

// wrong says where an error was found.
func (l *stateLines) wrong(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("ends in line %d, before its last line: it was not written to its end", l.number)
	}
	return fmt.Errorf("line %d: %w", l.number, err)
}
