package gittree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// ErrNotCommitted says that manifests of a work tree are not those of its commit.
var ErrNotCommitted = errors.New("is not as it was committed")

// Head is the commit that a work tree is checked out at.
type Head struct {
	// Top is the top folder of the work tree, Dir the folder where Git keeps what
	// belongs to it, HEAD and index included.
	Top, Dir string
	Commit   string
}

// HeadOf returns the commit of which the work tree has the manifests under paths,
// and under links, to where symbolic links among them lead. It fails with
// ErrNotCommitted if one of them is not as the commit has it, and if they are not
// all of one work tree. Then Top and Dir are set as far as they are known.
func HeadOf(ctx context.Context, paths, links []string) (Head, error) {
	var roots []string
	for _, p := range slices.Concat(paths, links) {
		real, err := filepath.Abs(p)
		if err == nil {
			real, err = filepath.EvalSymlinks(real)
		}
		if err != nil {
			return Head{}, fmt.Errorf("finding the work tree: %w", err)
		}
		roots = append(roots, real)
	}
	g := git{dir: roots[0]}
	if info, err := os.Stat(g.dir); err == nil && !info.IsDir() {
		g.dir = filepath.Dir(g.dir)
	}
	places, err := g.line(ctx, "rev-parse", "--show-toplevel", "--absolute-git-dir")
	if err != nil {
		return Head{}, err
	}
	var head Head
	head.Top, head.Dir, _ = strings.Cut(places, "\n")
	g.dir = head.Top
	args := []string{
		"--literal-pathspecs", "status", "--porcelain=v2", "--branch", "-z",
		"--untracked-files=all", "--ignored=matching", "--ignore-submodules=none", "--",
	}
	for i, root := range roots {
		inside, ok := within(head.Top, root)
		if !ok {
			return head, fmt.Errorf("%s is outside of the work tree %s", root, head.Top)
		}
		if roots[i] = inside; inside == "" {
			inside = "."
		}
		args = append(args, inside)
	}
	status, err := g.run(ctx, nil, args...)
	if err != nil {
		return head, err
	}
	changed, err := head.read(status, roots)
	switch {
	case err != nil:
		return head, err
	case changed != "":
		return head, fmt.Errorf("%s %w", filepath.Join(head.Top, changed), ErrNotCommitted)
	case head.Commit == "":
		return head, fmt.Errorf("%s has no commit: %w", head.Top, ErrNotCommitted)
	}
	return head, nil
}

// read takes the commit from a status of version 2 (git-status(1)), and returns
// the first path of a manifest that is not as the commit has it.
func (h *Head) read(status []byte, roots []string) (changed string, err error) {
	entries := strings.Split(strings.TrimSuffix(string(status), "\x00"), "\x00")
	for i := 0; i < len(entries); i++ {
		kind, rest, _ := strings.Cut(entries[i], " ")
		fields, paths := 0, 1
		switch kind {
		case "#":
			if commit, ok := strings.CutPrefix(rest, "branch.oid "); ok && commit != "(initial)" {
				h.Commit = commit
			}
			continue
		case "1":
			fields = 7
		case "2":
			fields, paths = 8, 2 // the second is an entry of its own
		case "u":
			fields = 9
		case "?", "!":
		default:
			continue
		}
		parts := strings.SplitN(rest, " ", fields+1)
		if len(parts) != fields+1 {
			return "", fmt.Errorf("git: a status with %q", entries[i])
		}
		names := []string{parts[fields]}
		if paths == 2 && i+1 < len(entries) {
			i++
			names = append(names, entries[i])
		}
		special := slices.ContainsFunc(parts[:fields], func(field string) bool {
			return field == modeLink || len(field) == 4 && field[0] == 'S' // a submodule
		})
		for _, name := range names {
			if special || h.matters(name, roots) {
				return name, nil
			}
		}
	}
	return "", nil
}

// matters reports whether manifest.List would list a path, or something in it if
// it is a folder, from one of roots.
func (h *Head) matters(name string, roots []string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		inside, ok := within(root, name)
		if root == "" {
			inside, ok = name, true
		}
		switch {
		case !ok:
			return false
		case inside == "":
			return true
		case !strings.HasSuffix(name, "/"):
			return manifest.Listed(inside)
		case !manifest.Listed(inside + "/x.yaml"):
			return false
		}
		tree, err := manifest.List([]string{filepath.Join(h.Top, filepath.FromSlash(name))})
		return err != nil || len(tree.Files) > 0
	})
}

// Times returns when a commit was committed, and before it those that it follows
// on, first parents only, in seconds since 1970 and no more than most. A shallow
// clone has fewer of them.
func Times(ctx context.Context, h Head, most int) ([]int64, error) {
	g := git{dir: h.Top}
	out, err := g.run(ctx, nil, "log", "--first-parent", "--max-count="+strconv.Itoa(most), "--format=%ct", h.Commit, "--")
	if err != nil {
		return nil, err
	}
	var times []int64
	for line := range bytes.FieldsSeq(out) {
		seconds, err := strconv.ParseInt(string(line), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("git: reading a time: %w", err)
		}
		times = append(times, seconds)
	}
	return times, nil
}
