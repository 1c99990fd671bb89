package manifest

import (
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// File is a manifest file as it was listed. Two listings that are equal have
// seen the same files in the same state, as far as the file system tells.
type File struct {
	Path     string
	Size     int64
	Modified time.Time
	// Changed and Inode tell what was put in the place of another file, and what
	// had its time of modification set. They are zero where the system has no such
	// thing.
	Changed time.Time
	Inode   uint64
}

// Tree is what stands under some paths: folders to watch and files to read.
type Tree struct {
	Folders []string // by path
	Files   []File   // by path
	// Links are the places that symbolic links lead to, and Modified is the latest
	// time of modification of all folders and files.
	Links    []string
	Modified time.Time
}

// Equal reports whether two listings have seen the same.
func (t Tree) Equal(other Tree) bool {
	return slices.Equal(t.Folders, other.Folders) && slices.Equal(t.Files, other.Files) &&
		slices.Equal(t.Links, other.Links) && t.Modified.Equal(other.Modified)
}

// List returns what stands under paths, each a folder or a file: files whose
// names end in .yaml, .yml or .json, in the folder and its sub-folders. Names
// that begin with a dot are passed over, symbolic links are followed, and what
// can be reached in several ways is listed once. Pipes and devices in folders are
// passed over. A link that leads nowhere, because it leads to itself, is listed,
// and Load tells that it cannot be read.
func List(paths []string) (Tree, error) { return NewLister(paths).List(nil) }

// Listed reports whether List would list the file of that path, given from a
// folder that it was asked for.
func Listed(path string) bool {
	for part := range strings.SplitSeq(filepath.ToSlash(path), "/") {
		if strings.HasPrefix(part, ".") {
			return false
		}
	}
	return isManifest(path)
}

func isManifest(name string) bool {
	switch filepath.Ext(name) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}
