package feed

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What somebody else put where the cache belongs is not believed.
func TestFilesOfOthersAreNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "table")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	read := func() string {
		if _, err := readPrivate(path, 10); err != nil {
			return err.Error()
		}
		return "read"
	}
	if got := read(); got != "read" {
		t.Fatalf("a file of one's own: %s", got)
	}
	if os.Geteuid() == 0 {
		// Root's files are always believed, so it has to be another's.
		if err := os.Chown(path, 4711, 0); err != nil {
			t.Fatal(err)
		}
	} else {
		before := ownUser
		ownUser = func() int { return 4711 }
		t.Cleanup(func() { ownUser = before })
	}
	if got := read(); !strings.Contains(got, "belongs to user") {
		t.Errorf("a file of another user: %s", got)
	}
}
