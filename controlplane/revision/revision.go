// Package revision says which revision manifests have by themselves, so that all
// control planes that read the same manifests number the table alike.
package revision

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/gittree"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// Number is the revision of manifests.
type Number struct {
	// Value is 0 if they have none by themselves, and somebody must look at the
	// clock.
	Value int64
	// By says what tells the revision.
	By string
	// Why says why it is the clock that does, where something else could have.
	Why string
}

// Source tells the revision of manifests. One goroutine uses it at a time.
type Source interface {
	// Of returns the revision of the manifests of a tree. It fails if they have
	// none that could be told to gateways.
	Of(ctx context.Context, tree manifest.Tree) (Number, error)
	// Folders returns what to watch beside the manifests, as of the last Of.
	Folders() []string
}

// Parse returns the source that a flag names, for manifests under paths: auto,
// git, mtime, clock, or file:PATH.
func Parse(name string, paths []string) (Source, error) {
	file, isFile := strings.CutPrefix(name, "file:")
	switch {
	case name == "clock":
		return Clock{}, nil
	case name == "mtime":
		return modified{}, nil
	case name == "git":
		return &commit{paths: paths}, nil
	case name == "auto":
		return &auto{commit{paths: paths}}, nil
	case isFile && file != "":
		return content{file}, nil
	}
	return nil, fmt.Errorf("%q, must be auto, git, mtime, clock or file:PATH", name)
}

// Clock leaves it to the clock.
type Clock struct{}

// Of returns none.
func (Clock) Of(context.Context, manifest.Tree) (Number, error) { return Number{By: "clock"}, nil }

// Folders returns none.
func (Clock) Folders() []string { return nil }

// modified takes the latest time of modification of all files and folders, in
// milliseconds since 1970. A folder's tells what was removed from it.
type modified struct{}

func (modified) Of(_ context.Context, tree manifest.Tree) (Number, error) {
	return Number{Value: max(1, tree.Modified.UnixMilli()), By: "mtime"}, nil
}

func (modified) Folders() []string { return nil }

// content takes what a file says.
type content struct{ path string }

// maxContent is the size in bytes above which a file is taken for another.
const maxContent = 100

func (c content) Of(context.Context, manifest.Tree) (Number, error) {
	f, err := os.Open(c.path)
	if err != nil {
		return Number{}, fmt.Errorf("reading the revision: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxContent+1))
	if err != nil {
		return Number{}, fmt.Errorf("reading the revision: %w", err)
	}
	value, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || value < 1 || len(text) > maxContent {
		return Number{}, fmt.Errorf("reading the revision: %s must hold a whole number from 1 to 9223372036854775807, and nothing else", c.path)
	}
	return Number{Value: value, By: "file " + c.path}, nil
}

func (c content) Folders() []string { return []string{filepath.Dir(c.path)} }

// commit takes the time of the commit that the manifests are checked out from.
type commit struct {
	paths []string
	dir   string // where Git keeps what belongs to the work tree, if there is one
	head  gittree.Head
	value int64 // of head
}

// history is how many commits are looked at for the revision of one, and patience
// how long Git may take.
const (
	history  = 1000
	patience = 30 * time.Second
)

func (c *commit) Of(ctx context.Context, tree manifest.Tree) (Number, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	head, err := gittree.HeadOf(ctx, c.paths, tree.Links)
	c.dir = head.Dir
	if err != nil {
		return Number{}, fmt.Errorf("finding the commit of the manifests: %w", err)
	}
	if head != c.head {
		times, err := gittree.Times(ctx, head, history)
		if err != nil {
			return Number{}, fmt.Errorf("finding the time of the commit: %w", err)
		}
		c.head, c.value = head, number(times)
	}
	return Number{Value: c.value, By: "commit " + head.Commit}, nil
}

// number returns the revision of the first of commits, of which each follows on
// the next: when it was committed, in milliseconds since 1970, but more than that
// of those before it. Times count seconds, and are set by whoever commits.
func number(seconds []int64) int64 {
	value := int64(0)
	for i := len(seconds) - 1; i >= 0; i-- {
		value = max(seconds[i]*1000, value+1)
	}
	return value
}

// Folders returns where Git notes what is checked out: in HEAD itself, or in the
// log of what it has been.
func (c *commit) Folders() []string {
	if c.dir == "" {
		return nil
	}
	folders := []string{c.dir}
	if logs := filepath.Join(c.dir, "logs"); isFolder(logs) {
		folders = append(folders, logs)
	}
	return folders
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// auto takes the commit where there is one, and else the clock.
type auto struct{ commit }

func (a *auto) Of(ctx context.Context, tree manifest.Tree) (Number, error) {
	n, err := a.commit.Of(ctx, tree)
	switch {
	case err == nil:
		return n, nil
	case ctx.Err() != nil:
		return Number{}, err
	}
	return Number{By: "clock", Why: err.Error()}, nil
}
