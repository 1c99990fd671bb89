package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// TraefikVersion is the Traefik that the tests and the demo run.
const TraefikVersion = "v3.6.12"

// The oldest Traefik whose plugins the demo trusts; older ones run plugins in
// an older Yaegi.
const oldestMajor, oldestMinor = 3, 4

const (
	pluginModule   = "github.com/tollgate-apim/tollgate"
	traefikCommand = "github.com/traefik/traefik/v3/cmd/traefik"
	traefikStamp   = "github.com/traefik/traefik/v3/pkg/version.Version"
)

// Logf tells the person who waits what takes long.
type Logf func(format string, args ...any)

// Root returns the folder of the project, found from the working directory up.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.Contains(mod, []byte("module "+pluginModule+"\n")) {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("not inside a clone of the project: found no go.mod of " + pluginModule)
		}
		dir = parent
	}
}

// FindTraefik returns the Traefik that $TRAEFIK names, or the one on PATH when
// it is new enough, or else builds one.
func FindTraefik(ctx context.Context, logf Logf) (string, error) {
	if path := os.Getenv("TRAEFIK"); path != "" {
		if _, _, err := traefikRelease(ctx, path); err != nil {
			return "", fmt.Errorf("$TRAEFIK: %w", err)
		}
		logf("using Traefik of $TRAEFIK: %s", path)
		return path, nil
	}
	if path, err := exec.LookPath("traefik"); err == nil {
		major, minor, err := traefikRelease(ctx, path)
		if err == nil && (major > oldestMajor || major == oldestMajor && minor >= oldestMinor) {
			logf("using Traefik v%d.%d on PATH: %s", major, minor, path)
			return path, nil
		}
		logf("leaving aside %s: it is not a Traefik v%d.%d or later", path, oldestMajor, oldestMinor)
	}
	return BuildTraefik(ctx, TraefikVersion, logf)
}

var releaseLine = regexp.MustCompile(`(?m)^Version:\s+v?(\d+)\.(\d+)`)

// traefikRelease asks a Traefik for its version.
func traefikRelease(ctx context.Context, path string) (major, minor int, err error) {
	out, err := exec.CommandContext(ctx, path, "version").Output()
	if err != nil {
		return 0, 0, fmt.Errorf("asking %s for its version: %w", path, err)
	}
	found := releaseLine.FindSubmatch(out)
	if found == nil {
		return 0, 0, fmt.Errorf("%s tells no release number", path)
	}
	major, _ = strconv.Atoi(string(found[1]))
	minor, _ = strconv.Atoi(string(found[2]))
	return major, minor, nil
}

// BuildTraefik returns a Traefik of the given version from .build, built from
// the Go module proxy if it is not there yet.
func BuildTraefik(ctx context.Context, version string, logf Logf) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "e2e", "traefik")
	mod := "go.mod"
	if version != TraefikVersion {
		mod = version + ".mod"
	}
	binary := filepath.Join(root, ".build", "traefik-"+version)
	if newerThan(binary, filepath.Join(dir, mod)) {
		return binary, nil
	}

	logf("building Traefik %s from the Go module proxy, once: 5 to 10 minutes on two cores when nothing is cached", version)
	begin := time.Now()
	err = goBuild(ctx, dir, binary, "-modfile="+mod, "-ldflags=-X "+traefikStamp+"="+strings.TrimPrefix(version, "v"), traefikCommand)
	if err != nil {
		return "", fmt.Errorf("building Traefik %s: %w", version, err)
	}
	logf("built Traefik %s in %s: %s", version, time.Since(begin).Round(time.Second), binary)
	return binary, nil
}

// BuildTollgate builds the control plane and returns its binary.
func BuildTollgate(ctx context.Context) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(root, ".build", "tollgate")
	if err := goBuild(ctx, filepath.Join(root, "controlplane"), binary, "./cmd/tollgate"); err != nil {
		return "", fmt.Errorf("building tollgate: %w", err)
	}
	return binary, nil
}

// goBuild builds a command beside its place and moves it there, so that nobody
// ever starts half a binary.
func goBuild(ctx context.Context, dir, binary string, args ...string) error {
	if err := os.MkdirAll(filepath.Dir(binary), 0o755); err != nil {
		return err
	}
	fresh := fmt.Sprintf("%s.%d", binary, os.Getpid())
	defer os.Remove(fresh) // Gone already when the build succeeded.
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-buildvcs=false", "-o", fresh}, args...)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return os.Rename(fresh, binary)
}

func newerThan(file, source string) bool {
	f, err := os.Stat(file)
	if err != nil {
		return false
	}
	s, err := os.Stat(source)
	return err == nil && f.ModTime().After(s.ModTime())
}
