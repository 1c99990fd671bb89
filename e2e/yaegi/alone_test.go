package yaegi

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// aloneEnv names the test that a process was started for.
const aloneEnv = "TOLLGATE_TEST_ALONE"

// alone says whether the test has its process to itself. If not, it has run it in
// another one. What other tests have left behind, and what they still let go of, would
// be weighed otherwise.
func alone(t *testing.T) bool {
	t.Helper()
	if os.Getenv(aloneEnv) == t.Name() {
		return true
	}
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	pattern := "^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$"
	cmd := exec.CommandContext(t.Context(), binary, "-test.run="+pattern, "-test.v")
	cmd.Env = append(os.Environ(), aloneEnv+"="+t.Name())
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()+" ") {
		t.Fatalf("by itself: %v\n%s", err, out)
	}
	t.Logf("by itself:\n%s", out)
	return false
}
