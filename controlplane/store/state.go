package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// A state file is a database of bbolt, which writes it so that a crash leaves it as
// it was before a transaction or after it. It has two buckets: one with a stateHead,
// in JSON, the other with the entries. Each value is sealed, since bbolt has no
// checksums of data.

const (
	// stateFormat is what files say that can be read here.
	stateFormat = "tollgate-state/1"
	// fillBytes is about how much is written in one transaction when a file is
	// made.
	fillBytes = 16 << 20
)

var (
	headBucket  = []byte("tollgate")
	headKey     = []byte("head")
	entryBucket = []byte("entries")
)

// errBadState says that a file is not what it should be, in contrast to a disk that
// fails.
var errBadState = errors.New("it was changed or damaged")

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

// stateFile is a file that is open for writing. One goroutine may use it.
type stateFile struct{ db *bolt.DB }

// createState makes the file of a path, or puts it in the place of another. After a
// crash there is the old one or the new one. Only its owner can read it.
func createState(path string, s state) (*stateFile, error) {
	// The lock is ours, so this name is, too.
	next := path + ".next"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	file, err := fillState(next, s)
	if err == nil {
		err = os.Rename(next, path)
		if err == nil {
			err = syncFolder(filepath.Dir(path))
		}
		if err == nil {
			return file, nil
		}
		err = errors.Join(err, file.close())
	}
	if removeErr := os.Remove(next); !errors.Is(removeErr, fs.ErrNotExist) {
		err = errors.Join(err, removeErr)
	}
	return nil, err
}

// fillState makes a file that was not there.
func fillState(path string, s state) (*stateFile, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{
		Timeout: time.Nanosecond, NoSync: true,
		// What is free is found out when a file is read, so it need not be in it.
		NoFreelistSync: true, FreelistType: bolt.FreelistMapType,
	})
	if err != nil {
		return nil, err
	}
	file := &stateFile{db: db}
	err = file.fill(s)
	if err == nil {
		err = db.Sync()
	}
	if err != nil {
		return nil, errors.Join(err, file.close())
	}
	db.NoSync = false
	return file, nil
}

func (f *stateFile) fill(s state) error {
	part, size := map[string]entry{}, 0
	for _, key := range slices.Sorted(maps.Keys(s.entries)) {
		part[key] = s.entries[key]
		if size += len(key) + len(s.entries[key].Data); size < fillBytes {
			continue
		}
		if err := f.commit(part, stateHead{}); err != nil {
			return err
		}
		part, size = map[string]entry{}, 0
	}
	return f.commit(part, stateHead{stateFormat, s.time, s.version, len(s.entries)})
}

// commit writes entries, and takes away those of version 0. It returns when they are
// on the disk, wholly. After an error, transaction says what to think of the file.
func (f *stateFile) commit(entries map[string]entry, head stateHead) error {
	return f.db.Update(func(tx *bolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(entryBucket)
		if err != nil {
			return err
		}
		for _, key := range slices.Sorted(maps.Keys(entries)) {
			e := entries[key]
			if e.Version == 0 {
				err = bucket.Delete([]byte(key))
			} else {
				err = bucket.Put([]byte(key), seal([]byte(key), e.encode()))
			}
			if err != nil {
				return err
			}
		}
		text, err := json.Marshal(head)
		if err != nil {
			return err
		}
		if bucket, err = tx.CreateBucketIfNotExists(headBucket); err != nil {
			return err
		}
		return bucket.Put(headKey, seal(headKey, text))
	})
}

// transaction returns the number of the last transaction that is in the file. If a
// commit has failed and it is the same as before, all of that is on the disk, and the
// file is as good as it was. Otherwise nobody knows what is on the disk, now or after
// the next commit, so a new file must be made.
func (f *stateFile) transaction() (number int, err error) {
	err = f.db.View(func(tx *bolt.Tx) error {
		number = tx.ID()
		return nil
	})
	return number, err
}

func (f *stateFile) close() error { return f.db.Close() }

// readState reads the file of a path. An error that is errBadState says what is wrong
// with the file, any other why it cannot be read.
func readState(path string) (s state, err error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return state{}, err
	case !info.Mode().IsRegular():
		return state{}, fmt.Errorf("%s is no regular file", path)
	case info.Size() == 0:
		return state{}, fmt.Errorf("is empty: %w", errBadState)
	}
	if err := readThrough(path); err != nil {
		return state{}, err
	}
	// In a damaged file bbolt reads what is not there, or panics.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			s, err = state{}, fmt.Errorf("cannot be read: %v: %w", p, errBadState)
		}
	}()
	db, err := bolt.Open(path, 0, &bolt.Options{ReadOnly: true, Timeout: time.Nanosecond})
	var failed *fs.PathError
	switch {
	case errors.As(err, &failed):
		return state{}, err
	case errors.Is(err, bolterrors.ErrTimeout):
		return state{}, fmt.Errorf("%s: another process uses it", path)
	case err != nil:
		return state{}, fmt.Errorf("is no state file of tollgate: %w: %w", err, errBadState)
	}
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) error { return s.read(tx, info.Size()) })
	if err != nil {
		return state{}, fmt.Errorf("%w: %w", err, errBadState)
	}
	return s, nil
}

// readThrough reads a file for nothing, to tell a disk that fails, where it can be
// told: in memory that is mapped to the file it looks like damage.
func readThrough(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.Copy(io.Discard, file)
	return err
}

// checkPages returns an error if the pages of a bucket lead to one of them twice: bbolt
// would go round there until no memory is left.
func checkPages(db *bolt.DB, bucket *bolt.Bucket) error {
	if bucket.Root() == 0 {
		return nil // It is in the page of another.
	}
	file, err := os.Open(db.Path())
	if err != nil {
		return err
	}
	defer file.Close()
	size := int64(db.Info().PageSize)
	seen := map[uint64]bool{}
	for open := []uint64{uint64(bucket.Root())}; len(open) > 0; {
		page := open[len(open)-1]
		open = open[:len(open)-1]
		if seen[page] {
			return fmt.Errorf("has page %d twice", page)
		}
		seen[page] = true
		below, err := readBranch(file, page, size)
		if err != nil {
			return fmt.Errorf("page %d: %w", page, err)
		}
		open = append(open, below...)
	}
	return nil
}

// What is in a page of bbolt that has others below it, in bytes: each is named at the
// end of an element.
const (
	pageHead    = 16
	pageFlags   = 8 // where they are
	pageCount   = 10
	branchFlag  = 1
	branchEntry = 16
	branchPage  = 8
)

// readBranch returns the pages below a page of so many bytes.
func readBranch(file io.ReaderAt, page uint64, size int64) ([]uint64, error) {
	if page > uint64(math.MaxInt64/size)-1 {
		return nil, io.ErrUnexpectedEOF
	}
	at := int64(page) * size
	head := make([]byte, pageHead)
	if _, err := file.ReadAt(head, at); err != nil {
		return nil, err
	}
	// bbolt writes numbers as the machine has them.
	if binary.NativeEndian.Uint16(head[pageFlags:])&branchFlag == 0 {
		return nil, nil
	}
	elements := make([]byte, branchEntry*int(binary.NativeEndian.Uint16(head[pageCount:])))
	if _, err := file.ReadAt(elements, at+pageHead); err != nil {
		return nil, err
	}
	var below []uint64
	for ; len(elements) > 0; elements = elements[branchEntry:] {
		below = append(below, binary.NativeEndian.Uint64(elements[branchPage:]))
	}
	return below, nil
}

// read reads all of a file of so many bytes.
func (s *state) read(tx *bolt.Tx, size int64) error {
	if tx.Size() > size {
		return fmt.Errorf("has %d bytes, must have %d: it was cut", size, tx.Size())
	}
	bucket, entries := tx.Bucket(headBucket), tx.Bucket(entryBucket)
	if bucket == nil || entries == nil {
		return errors.New("is no state file of tollgate")
	}
	if err := checkPages(tx.DB(), entries); err != nil {
		return err
	}
	text, err := unseal(headKey, bucket.Get(headKey))
	if err != nil {
		return fmt.Errorf("its head %w", err)
	}
	var head stateHead
	if err := json.Unmarshal(text, &head); err != nil {
		return fmt.Errorf("its head: %w", err)
	}
	switch {
	case head.Format != stateFormat:
		return fmt.Errorf("has the format %q, can read %q", head.Format, stateFormat)
	case head.Version < 0 || head.Entries < 0 || head.Entries > maxEntries:
		return fmt.Errorf("its head has version %d and %d entries, must be 0 or more, and at most %d entries", head.Version, head.Entries, maxEntries)
	}
	*s = state{time: head.Time, version: head.Version, entries: make(map[string]entry)}
	err = entries.ForEach(func(key, value []byte) error {
		e, err := decodeEntry(key, value)
		if err == nil && (e.Version < 1 || e.Version > head.Version) {
			err = fmt.Errorf("has version %d, must be from 1 to %d", e.Version, head.Version)
		}
		if err != nil {
			return fmt.Errorf("entry %.80q %w", key, err)
		}
		s.entries[string(key)] = e
		return nil
	})
	if err == nil && len(s.entries) != head.Entries {
		err = fmt.Errorf("has %d entries, must have %d", len(s.entries), head.Entries)
	}
	return err
}

// entryHead is the length of what stands before the data of an entry: its version,
// and until when it stays, in seconds and nanoseconds since 1970, 0 for ever.
const entryHead = 8 + 8 + 4

// encode returns what decodeEntry unseals.
func (e entry) encode() []byte {
	b := make([]byte, 0, entryHead+len(e.Data))
	b = binary.BigEndian.AppendUint64(b, uint64(e.Version))
	var seconds, nanoseconds int64
	if !e.until.IsZero() {
		seconds, nanoseconds = e.until.Unix(), int64(e.until.Nanosecond())
	}
	b = binary.BigEndian.AppendUint64(b, uint64(seconds))
	b = binary.BigEndian.AppendUint32(b, uint32(nanoseconds))
	return append(b, e.Data...)
}

// decodeEntry reads the value of a key. The error goes on after what it is of.
func decodeEntry(key, value []byte) (entry, error) {
	b, err := unseal(key, value)
	switch {
	case err != nil:
		return entry{}, err
	case len(b) < entryHead:
		return entry{}, fmt.Errorf("has %d bytes, must have at least %d", len(b), entryHead)
	case len(b) > entryHead+MaxDataBytes:
		return entry{}, fmt.Errorf("has %d bytes of data, must have at most %d", len(b)-entryHead, MaxDataBytes)
	}
	if err := checkKey(string(key)); err != nil {
		return entry{}, fmt.Errorf("cannot be: %w", err)
	}
	// What bbolt returns is of the file, and goes away with it.
	e := entry{Value: Value{Version: int64(binary.BigEndian.Uint64(b)), Data: append([]byte{}, b[entryHead:]...)}}
	seconds, nanoseconds := int64(binary.BigEndian.Uint64(b[8:])), binary.BigEndian.Uint32(b[16:])
	if nanoseconds >= uint32(time.Second) {
		return entry{}, fmt.Errorf("stays for %d nanoseconds, must be less than a second", nanoseconds)
	}
	if seconds != 0 || nanoseconds != 0 {
		e.until = time.Unix(seconds, int64(nanoseconds)).UTC()
	}
	return e, nil
}

// seal puts the checksum of a key and its value before the value.
func seal(key, value []byte) []byte {
	return append(checksum(key, value), value...)
}

// unseal returns what seal was given. The error goes on after what it is of.
func unseal(key, sealed []byte) ([]byte, error) {
	if len(sealed) < crc32.Size {
		return nil, fmt.Errorf("has %d bytes, must have at least %d", len(sealed), crc32.Size)
	}
	sum, value := sealed[:crc32.Size], sealed[crc32.Size:]
	if want := checksum(key, value); !bytes.Equal(sum, want) {
		return nil, fmt.Errorf("has the checksum %x, must have %x", sum, want)
	}
	return value, nil
}

func checksum(key, value []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
	return binary.BigEndian.AppendUint32(nil, sum)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// syncFolder has the disk keep the names in a folder.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
