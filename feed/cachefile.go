package feed

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/tollgate-apim/tollgate/table"
)

// A cache file is one line of JSON, and behind it what the endpoint served at
// table.Path, to the byte. The parts of an index are files beside it, in a folder,
// each under its sum.

// cacheFormat is what the first line calls itself.
const cacheFormat = "tollgate table cache 1"

// maxCacheLine bounds the first line of a cache file.
const maxCacheLine = 64 << 10

// cacheLine is the first line of a cache file.
type cacheLine struct {
	// Confirmed comes first and always has the same length, so that it can be
	// written anew where it stands.
	Confirmed string `json:"confirmed"`
	Format    string `json:"format"`
	// Endpoint gave the table, or confirmed it last before it was written.
	Endpoint string `json:"endpoint"`
	// Unchecked says that it could have been anybody who answered there.
	Unchecked  bool   `json:"unchecked,omitempty"`
	ETag       string `json:"etag"`
	Signatures string `json:"signatures,omitempty"`
	Revision   int64  `json:"revision"`
	Bytes      int64  `json:"bytes"`
	SHA256     string `json:"sha256"`
}

// Where the time stands in the first line, and how it is written.
const (
	confirmedAt     = len(`{"confirmed":"`)
	confirmedLayout = "2006-01-02T15:04:05Z"
)

// newCacheLine returns the first line of a file that keeps a snapshot and the
// body that it came in.
func newCacheLine(s *Snapshot, body []byte, unchecked bool) ([]byte, error) {
	line, err := json.Marshal(cacheLine{
		Confirmed:  s.Confirmed.UTC().Format(confirmedLayout),
		Format:     cacheFormat,
		Endpoint:   s.From,
		Unchecked:  unchecked,
		ETag:       s.etag,
		Signatures: s.proof.signatures,
		Revision:   s.Table.Revision,
		Bytes:      int64(len(body)),
		SHA256:     hex.EncodeToString([]byte(s.sum)),
	})
	if err == nil && len(line) >= maxCacheLine {
		err = fmt.Errorf("its first line would have %d bytes", len(line))
	}
	return append(line, '\n'), err
}

// readCache returns the table that a file keeps, and its first line, for a feed
// of these settings at the time now; or an error that says why it cannot be
// trusted. It returns nothing if there is no such file, or if its table is not
// newer than a revision.
func readCache(path string, cfg Config, newerThan int64, now time.Time) (*Snapshot, []byte, error) {
	atMost := cfg.MaxBytes
	if atMost <= math.MaxInt64-maxCacheLine {
		atMost += maxCacheLine
	}
	file, size, err := openPrivate(path, atMost)
	if os.IsNotExist(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = file.Close() }()
	first, line, err := readCacheLine(file)
	if err != nil || line.Revision <= newerThan {
		return nil, nil, err
	}
	if got := size - int64(len(first)); got != line.Bytes {
		return nil, nil, fmt.Errorf("is torn: it has %d bytes of a table, expected %d", got, line.Bytes)
	}
	body := make([]byte, line.Bytes)
	if _, err := file.ReadAt(body, int64(len(first))); err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, fmt.Errorf("reading: %w", err)
	}
	hash := sha256.Sum256(body)
	if hex.EncodeToString(hash[:]) != line.SHA256 {
		return nil, nil, errors.New("was changed: its table does not have the SHA-256 that it names")
	}
	s, err := cachedSnapshot(line, body, cfg, now)
	if err != nil {
		return nil, nil, err
	}
	s.sum = string(hash[:])
	if !oneTag.MatchString(s.etag) || !tagsHash(s.etag, s.sum) {
		// Who can write the file, but not sign, could have an endpoint confirm
		// an old table under the tag of a new one.
		s.etag = ""
	}
	if len(s.Table.Parts) > 0 {
		if err := readParts(s, path, cfg.MaxBytes-line.Bytes); err != nil {
			return nil, nil, err
		}
	}
	return s, first, nil
}

// readCacheLine returns the first line of a cache file, as it stands there and
// decoded.
func readCacheLine(file *os.File) ([]byte, cacheLine, error) {
	var line cacheLine
	head := make([]byte, maxCacheLine)
	n, err := file.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, line, fmt.Errorf("reading: %w", err)
	}
	end := bytes.IndexByte(head[:n], '\n')
	if end < 0 || json.Unmarshal(head[:end], &line) != nil || line.Format != cacheFormat || line.Revision < 1 {
		return nil, line, fmt.Errorf("is torn or no cache of a table, expected a first line with the format %q", cacheFormat)
	}
	return append([]byte{}, head[:end+1]...), line, nil
}

// foreign returns why a feed of these settings cannot trust a file with such a
// first line, whatever else is in it; nil if it can.
func foreign(line cacheLine, cfg Config) error {
	known := false
	for _, endpoint := range cfg.Endpoints {
		known = known || endpoint == line.Endpoint
	}
	if !known {
		return fmt.Errorf("has a table from %s, which is not in sync.endpoint", withoutUser(line.Endpoint))
	}
	if line.Unchecked && !cfg.Unchecked && len(cfg.PublicKeys) == 0 {
		return errors.New("has a table that was fetched with sync.tls.insecureSkipVerify")
	}
	return nil
}

// cachedSnapshot checks what stands in a cache file against the settings of a
// feed.
func cachedSnapshot(line cacheLine, body []byte, cfg Config, now time.Time) (*Snapshot, error) {
	if err := foreign(line, cfg); err != nil {
		return nil, err
	}
	by, err := verify(cfg.PublicKeys, []string{line.Signatures}, body)
	if err != nil {
		return nil, err
	}
	confirmed, err := time.Parse(confirmedLayout, line.Confirmed)
	if err != nil {
		return nil, fmt.Errorf("does not say when its table was confirmed: %q", line.Confirmed)
	}
	t, err := table.Decode(body)
	if err != nil {
		return nil, err
	}
	if t.Revision != line.Revision {
		return nil, fmt.Errorf("was changed: its table has revision %d, expected %d", t.Revision, line.Revision)
	}
	return &Snapshot{Table: t, Confirmed: confirmedBefore(now, confirmed), From: line.Endpoint, etag: line.ETag, proof: by}, nil
}

// maxAhead is how far a time in a file may be ahead of the clock. The file is exact
// to keepEvery, so a clock that was corrected by less makes no difference.
const maxAhead = keepEvery

// confirmedBefore returns a time that a file tells, as one before now on a clock that
// nobody sets, or the zero time if it is ahead of now: then the clock was set back,
// and nobody knows for how long the table has not been confirmed.
func confirmedBefore(now, told time.Time) time.Time {
	age := now.Sub(told)
	if age < -maxAhead {
		return time.Time{}
	}
	if age < 0 {
		age = 0
	}
	return now.Add(-age)
}

// oneTag matches an entity tag, and never a list of them.
var oneTag = regexp.MustCompile(`^(W/)?"[^",]*"$`)

// partsFolder is where the parts of the index in a cache file are.
func partsFolder(path string) string { return path + ".parts" }

// readParts makes the table of s, an index, whole. Its parts may have so many
// bytes together.
func readParts(s *Snapshot, path string, left int64) error {
	index := s.Table
	parts := make([]*table.Part, len(index.Parts))
	read := map[string]*table.Part{}
	for i, sum := range index.Parts {
		part := read[sum]
		if part == nil {
			data, err := readPrivate(filepath.Join(partsFolder(path), sum), left)
			if err != nil {
				return fmt.Errorf("part %d of %d: %w", i+1, len(parts), err)
			}
			if part, err = table.ParsePart(sum, data); err != nil {
				return err
			}
			read[sum] = part
		}
		parts[i] = part
		size := int64(len(part.Text()))
		left -= size
		s.partBytes += size
	}
	if left < 0 {
		return errors.New("has more bytes than sync.maxBytes")
	}
	whole, err := table.Assemble(index, parts)
	if err != nil {
		return err
	}
	s.Table = whole
	return nil
}

// openPrivate opens a regular file of so many bytes at most that nobody else may
// read or write, and returns its size.
func openPrivate(path string, atMost int64) (*os.File, int64, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, 0, err
	}
	mode := info.Mode()
	if mode&os.ModeSymlink != 0 {
		return nil, 0, errors.New("is a symbolic link, expected a file")
	}
	if !mode.IsRegular() {
		return nil, 0, errors.New("is no file")
	}
	if mode.Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, 0, fmt.Errorf("may be read or written by others: its mode is %#o, expected 0600", mode.Perm())
	}
	if uid, known := owner(info); known && uid != 0 && uid != ownUser() {
		return nil, 0, fmt.Errorf("belongs to user %d, expected %d or root", uid, ownUser())
	}
	if info.Size() > atMost {
		return nil, 0, fmt.Errorf("has %d bytes, expected %d at most (sync.maxBytes)", info.Size(), atMost)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	if opened, err := file.Stat(); err != nil || !os.SameFile(info, opened) {
		_ = file.Close()
		return nil, 0, errors.New("was replaced while it was opened")
	}
	return file, info.Size(), nil
}

// ownUser is replaced in tests.
var ownUser = os.Geteuid

// owner returns the number of the user whose file it is, where the system has
// such. Package syscall is not there for plugins.
func owner(info os.FileInfo) (uid int, known bool) {
	stat := reflect.Indirect(reflect.ValueOf(info.Sys()))
	if stat.Kind() != reflect.Struct {
		return 0, false
	}
	field := stat.FieldByName("Uid")
	if field.Kind() != reflect.Uint32 {
		return 0, false
	}
	return int(field.Uint()), true
}

// readPrivate returns what is in a file that openPrivate opens.
func readPrivate(path string, atMost int64) ([]byte, error) {
	file, size, err := openPrivate(path, atMost)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	data := make([]byte, size)
	if _, err := io.ReadFull(file, data); err != nil {
		return nil, fmt.Errorf("reading: %w", err)
	}
	return data, nil
}

// tempPrefix is what the names of files begin with that are to replace a file.
func tempPrefix(path string) string { return "." + filepath.Base(path) + ".new-" }

// replace writes a file at a stroke: whoever reads it, now or after a crash, finds
// what was there before or all that is written. Only its owner may read it.
func (c *Cache) replace(path string, chunks ...[]byte) error {
	dir := filepath.Dir(path)
	file, err := c.create(dir, tempPrefix(path)+"*")
	if err != nil {
		return withoutPath(err)
	}
	for _, chunk := range chunks {
		if err == nil {
			_, err = file.Write(chunk)
		}
	}
	if err == nil {
		err = file.Sync()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
	return withoutPath(err)
}

// withoutPath returns err without the names of the files that it is about: that of
// a temporary one is another each time.
func withoutPath(err error) error {
	switch e := err.(type) { //nolint:errorlint // package os returns no others
	case *os.PathError:
		return fmt.Errorf("%s: %w", e.Op, e.Err)
	case *os.LinkError:
		return fmt.Errorf("%s: %w", e.Op, e.Err)
	}
	return err
}

// syncFolder makes what was renamed in a folder last, where that can be done.
func syncFolder(dir string) {
	if folder, err := os.Open(dir); err == nil {
		_ = folder.Sync()
		_ = folder.Close()
	}
}

// writeCache puts a snapshot, and the body that it came in, into the file. Parts
// that are there already are left alone: kept has their sums. It returns the
// file's first line, and the sums of all parts.
func (c *Cache) writeCache(s *Snapshot, body []byte, unchecked bool, kept map[string]bool) ([]byte, map[string]bool, error) {
	line, err := newCacheLine(s, body, unchecked)
	if err != nil {
		return nil, nil, err
	}
	if info, err := os.Lstat(c.path); err == nil && !info.Mode().IsRegular() && info.Mode()&os.ModeSymlink == 0 {
		// Such as /dev/null, which others need.
		return nil, nil, errors.New("is no file, and is left as it is")
	}
	c.sweep()
	now, err := c.writeParts(s.Table, kept)
	if err != nil {
		return nil, nil, err
	}
	if err := c.replace(c.path, line, body); err != nil {
		return nil, nil, err
	}
	syncFolder(filepath.Dir(c.path))
	c.dropParts(now)
	return line, now, nil
}

// writeParts writes the parts of a table that are not kept yet, or not any more, and
// returns the sums of all.
func (c *Cache) writeParts(t *table.Table, kept map[string]bool) (map[string]bool, error) {
	now := map[string]bool{}
	if len(t.Parts) == 0 {
		return now, nil
	}
	folder := partsFolder(c.path)
	err := os.Mkdir(folder, 0o700)
	if err != nil && !os.IsExist(err) {
		return nil, err
	}
	if err == nil {
		kept = nil // They went with the folder that there was, if any.
	}
	if info, err := os.Lstat(folder); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("%s is no folder", folder)
	}
	for i, sum := range t.Parts {
		if now[sum] {
			continue
		}
		now[sum] = true
		file, part := filepath.Join(folder, sum), table.LoadedParts(t)[i]
		if kept[sum] && stillThere(file, len(part.Text())) {
			continue
		}
		if err := c.replace(file, []byte(part.Text())); err != nil {
			return nil, err
		}
	}
	syncFolder(folder)
	return now, nil
}

// stillThere says whether nobody has removed a file of so many bytes, or cut it off.
func stillThere(path string, size int) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular() && info.Size() == int64(size)
}

// dropParts removes all files from the folder of parts but some, and the folder
// if nothing is left in it.
func (c *Cache) dropParts(but map[string]bool) {
	folder := partsFolder(c.path)
	if info, err := os.Lstat(folder); err != nil || !info.IsDir() {
		return
	}
	entries, _ := os.ReadDir(folder)
	for _, entry := range entries {
		if !but[entry.Name()] {
			_ = os.Remove(filepath.Join(folder, entry.Name()))
		}
	}
	if len(but) == 0 {
		_ = os.Remove(folder)
	}
}

// sweep removes, once, what a process left behind that ended while it wrote.
func (c *Cache) sweep() {
	if c.swept {
		return
	}
	c.swept = true
	dir := filepath.Dir(c.path)
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), tempPrefix(c.path)) {
			_ = os.Remove(filepath.Join(dir, entry.Name()))
		}
	}
}

// errReplaced says that somebody else has written the file.
var errReplaced = errors.New("is not as it was left")

// confirm writes when the table in the file was confirmed last, in place of what
// stands there. It returns the first line, which was line before.
func (c *Cache) confirm(line []byte, at time.Time) ([]byte, error) {
	info, err := os.Lstat(c.path)
	if err != nil || !info.Mode().IsRegular() {
		return nil, errReplaced
	}
	file, err := os.OpenFile(c.path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	found := make([]byte, len(line))
	if _, err := io.ReadFull(file, found); err != nil || !bytes.Equal(found, line) {
		return nil, errReplaced
	}
	text := at.UTC().Format(confirmedLayout)
	if _, err := file.WriteAt([]byte(text), int64(confirmedAt)); err != nil {
		return nil, err
	}
	next := append([]byte{}, line...)
	copy(next[confirmedAt:], text)
	return next, nil
}
