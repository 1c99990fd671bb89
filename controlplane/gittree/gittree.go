// Package gittree reads manifests of a Git revision. It asks git for objects and
// touches neither the work tree nor the index.
package gittree

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// Read returns what stood under paths, folders or files of the work tree around
// dir, at a revision: the files that manifest.List would list there, under the
// names that it would give them. A path that was not there yet has nothing.
// Symbolic links are followed as they were, unless they lead out of the tree;
// submodules are passed over.
func Read(ctx context.Context, dir, revision string, paths []string) ([]manifest.Text, error) {
	g := git{dir: dir}
	commit, err := g.line(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", revision+"^{commit}")
	if err != nil {
		if _, inside := g.line(ctx, "rev-parse", "--git-dir"); inside != nil {
			return nil, inside
		}
		return nil, fmt.Errorf("%q names no commit of this repository; a shallow clone may lack it: fetch it first", revision)
	}
	top, err := g.line(ctx, "rev-parse", "--show-toplevel")
	if err != nil {
		return nil, err
	}
	wanted, err := resolve(dir, top, paths)
	if err != nil {
		return nil, err
	}
	listing, err := g.run(ctx, nil, "ls-tree", "-r", "-z", "--full-tree", commit)
	if err != nil {
		return nil, err
	}
	objects := blobs(listing)
	links, err := g.links(ctx, listing, objects)
	if err != nil {
		return nil, err
	}
	t := newTree(top, listing, links)
	for _, w := range wanted {
		if _, ok := t.real(w.top); !ok {
			w.top = w.real
		}
		t.add(w.top, w.given, true)
	}
	slices.SortFunc(t.out, func(a, b manifest.Text) int { return strings.Compare(a.Name, b.Name) })
	return t.out, g.read(ctx, t.out, objects)
}

// links returns where the symbolic links of a listing lead.
func (g git) links(ctx context.Context, listing []byte, objects map[string]string) (map[string]string, error) {
	var texts []manifest.Text
	var names []string
	entries(listing, func(file, mode, _ string) {
		if mode == modeLink {
			texts = append(texts, manifest.Text{Name: file, Data: []byte(file)})
			names = append(names, file)
		}
	})
	if err := g.read(ctx, texts, objects); err != nil {
		return nil, err
	}
	out := make(map[string]string, len(names))
	for i, name := range names {
		out[name] = string(texts[i].Data)
	}
	return out, nil
}

// wantedPath is a path as it was given, and from the top of the work tree, where
// "" is the top itself: top as it reads, and real with the symbolic links that the
// work tree has now.
type wantedPath struct{ given, top, real string }

func resolve(dir, top string, paths []string) ([]wantedPath, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("finding the folder: %w", err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, fmt.Errorf("finding the folder: %w", err)
	}
	if top, err = filepath.EvalSymlinks(top); err != nil {
		return nil, fmt.Errorf("finding the top of the work tree: %w", err)
	}
	var out []wantedPath
	for _, p := range paths {
		absolute := p
		if !filepath.IsAbs(p) {
			absolute = filepath.Join(dir, p)
		}
		inside, ok := within(top, absolute)
		realInside := inside
		// Of what is gone by now the folder may still be there.
		if real, err := filepath.EvalSymlinks(absolute); err == nil {
			var stays bool
			if realInside, stays = within(top, real); !stays {
				ok = false
			} else if !ok {
				inside, ok = realInside, true
			}
		}
		if !ok {
			return nil, fmt.Errorf("%s is outside of the work tree %s", p, top)
		}
		out = append(out, wantedPath{filepath.Clean(p), inside, realInside})
	}
	return out, nil
}

// within returns a path from the top on, unless it is outside.
func within(top, absolute string) (string, bool) {
	relative, err := filepath.Rel(top, absolute)
	if err != nil || relative == ".." || strings.HasPrefix(relative, ".."+string(filepath.Separator)) {
		return "", false
	}
	if relative == "." {
		return "", true
	}
	return filepath.ToSlash(relative), true
}

// entries yields the path, the mode and the object of each file in a listing.
func entries(listing []byte, yield func(file, mode, object string)) {
	for entry := range bytes.SplitSeq(listing, []byte{0}) {
		info, file, ok := strings.Cut(string(entry), "\t")
		if fields := strings.Fields(info); ok && len(fields) == 3 {
			yield(file, fields[0], fields[2])
		}
	}
}

func blobs(listing []byte) map[string]string {
	out := map[string]string{}
	entries(listing, func(file, _, object string) { out[file] = object })
	return out
}

// read fills in what files held, all with one process.
func (g git) read(ctx context.Context, files []manifest.Text, objects map[string]string) error {
	if len(files) == 0 {
		return nil
	}
	var asked strings.Builder
	for _, f := range files {
		asked.WriteString(objects[string(f.Data)] + "\n")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := g.command(ctx, "cat-file", "--batch")
	cmd.Stdin = strings.NewReader(asked.String())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("running git: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("running git: %w", err)
	}
	out := bufio.NewReader(stdout)
	var reading error
	for i := range files {
		if files[i].Data, reading = readObject(out); reading != nil {
			cancel()
			break
		}
	}
	if err := cmd.Wait(); reading == nil && err != nil {
		reading = failure(err, stderr.String())
	}
	return reading
}

// readObject reads "object type size", a line break, the content and another
// line break. Of what is too large for a manifest it keeps no more than shows it.
func readObject(r *bufio.Reader) ([]byte, error) {
	header, err := r.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("reading from git: %w", err)
	}
	fields := strings.Fields(header)
	if len(fields) != 3 {
		return nil, fmt.Errorf("reading from git: %s", strings.TrimSpace(header))
	}
	size, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("reading from git: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(r, min(size, manifest.MaxFileBytes+1)))
	if err == nil {
		_, err = io.CopyN(io.Discard, r, size-int64(len(data))+1)
	}
	if err != nil {
		return nil, fmt.Errorf("reading from git: %w", err)
	}
	return data, nil
}

// git runs git in a folder.
type git struct{ dir string }

func (g git) command(ctx context.Context, args ...string) *exec.Cmd {
	// #nosec G204 -- the program is git, and what users say is marked as no option.
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = g.dir
	// Nothing of what is asked here needs a lock, a prompt or the network.
	cmd.Env = append(os.Environ(), "GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0", "GIT_NO_LAZY_FETCH=1", "LC_ALL=C")
	return cmd
}

func (g git) run(ctx context.Context, stdin io.Reader, args ...string) ([]byte, error) {
	cmd := g.command(ctx, args...)
	cmd.Stdin = stdin
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, failure(err, stderr.String())
	}
	return stdout.Bytes(), nil
}

func (g git) line(ctx context.Context, args ...string) (string, error) {
	out, err := g.run(ctx, nil, args...)
	return strings.TrimSuffix(string(out), "\n"), err
}

// failure is the error of a git that ended badly, in its own words.
func failure(err error, stderr string) error {
	text := strings.TrimSpace(stderr)
	var exit *exec.ExitError
	if text != "" && errors.As(err, &exit) {
		first, _, _ := strings.Cut(text, "\n")
		return fmt.Errorf("git: %s", strings.TrimPrefix(first, "fatal: "))
	}
	return fmt.Errorf("running git: %w", err)
}
