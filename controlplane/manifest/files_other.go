//go:build !linux

package manifest

import "io/fs"

func newFile(path string, info fs.FileInfo) File {
	return File{Path: path, Size: info.Size(), Modified: info.ModTime()}
}
