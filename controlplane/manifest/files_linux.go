package manifest

import (
	"io/fs"
	"syscall"
	"time"
)

func newFile(path string, info fs.FileInfo) File {
	f := File{Path: path, Size: info.Size(), Modified: info.ModTime()}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		f.Changed, f.Inode = time.Unix(stat.Ctim.Unix()), stat.Ino
	}
	return f
}
