package gittree

import (
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tollgate-apim/tollgate/controlplane/manifest"
)

// The modes of files and of symbolic links.
const (
	modeFile = "100" // and what its owner may do
	modeLink = "120000"
)

// maxLinks is how many symbolic links one path may lead over.
const maxLinks = 40

// tree lists a revision as manifest.List does the work tree.
type tree struct {
	top     string
	files   map[string]bool
	folders map[string][]string // the names in each
	links   map[string]string
	seen    map[string]bool // by path without symbolic links
	// out has in Data the path in the tree, for read to replace.
	out []manifest.Text
}

func newTree(top string, listing []byte, links map[string]string) *tree {
	t := &tree{top: top, files: map[string]bool{}, folders: map[string][]string{"": nil}, links: links, seen: map[string]bool{}}
	entries(listing, func(file, mode, _ string) {
		if strings.HasPrefix(mode, modeFile) {
			t.files[file] = true
		} else if mode != modeLink {
			return
		}
		for name := file; name != ""; {
			folder, base := parent(name), path.Base(name)
			_, known := t.folders[folder]
			t.folders[folder] = append(t.folders[folder], base)
			if known {
				break
			}
			name = folder
		}
	})
	for _, names := range t.folders {
		slices.Sort(names)
	}
	return t
}

// parent returns the folder of a path, "" for the top.
func parent(name string) string {
	folder, _ := path.Split(name)
	return strings.TrimSuffix(folder, "/")
}

// real returns what a path leads to, if that is in the tree.
func (t *tree) real(name string) (string, bool) {
	at, links := "", 0
	parts := strings.Split(name, "/")
	for len(parts) > 0 {
		part := parts[0]
		parts = parts[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if at == "" {
				return "", false
			}
			at = parent(at)
			continue
		}
		next := path.Join(at, part)
		target, isLink := t.links[next]
		_, isFolder := t.folders[next]
		switch {
		case isLink:
			if links++; links > maxLinks {
				return "", false
			}
			if path.IsAbs(target) {
				inside, ok := within(t.top, filepath.FromSlash(target))
				if !ok {
					return "", false
				}
				at, target = "", inside
			}
			parts = append(strings.Split(target, "/"), parts...)
		case isFolder, t.files[next] && len(parts) == 0:
			at = next
		default:
			return "", false
		}
	}
	return at, true
}

// add lists what path names, as manifest.List does.
func (t *tree) add(file, given string, root bool) {
	real, ok := t.real(file)
	if !ok || t.files[real] && !root && !manifest.Listed(path.Base(file)) || t.seen[real] {
		return
	}
	t.seen[real] = true
	if t.files[real] {
		t.out = append(t.out, manifest.Text{Name: given, Data: []byte(real)})
		return
	}
	for _, name := range t.folders[real] {
		if !strings.HasPrefix(name, ".") {
			t.add(path.Join(real, name), filepath.Join(given, filepath.FromSlash(name)), false)
		}
	}
}
