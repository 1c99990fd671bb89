package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// A step is a command to try. Its words after → are the statuses to expect.
type step struct{ what, command string }

// steps returns the commands for a gateway at the given base URL.
func steps(url string) []step {
	call := func(key string) string {
		return fmt.Sprintf("curl -i -H 'Authorization: Bearer %s' %s/weather", key, url)
	}
	status := func(times int, command string) string {
		var rounds []string
		for i := range times {
			rounds = append(rounds, fmt.Sprint(i+1))
		}
		command = strings.Replace(command, "curl -i", "curl -s -o /dev/null -w '%{http_code}\\n'", 1)
		return fmt.Sprintf("for i in %s; do %s; done", strings.Join(rounds, " "), command)
	}
	return []step{
		{"Key, subscription and plan are in order → 200. See X-App-Id in the echo, and no key.", call("secret-api-key")},
		{"The key as a query parameter; the upstream gets the others → 200", fmt.Sprintf("curl -i '%s/weather?city=Lyon&api_key=secret-api-key'", url)},
		{"No key → 401 key_missing", fmt.Sprintf("curl -i %s/weather", url)},
		{"An unknown key → 401 key_invalid", call("no-such-key")},
		{"A suspended key is not told apart → 401 key_invalid", call("old-api-key")},
		{"A key whose application has no subscription → 403 subscription_missing", call("guest-api-key")},
		{"An operation that the subscription leaves out → 403 operation_forbidden", strings.Replace(call("trial-api-key"), "-i", "-i -X DELETE", 1)},
		{"The trial plan's quota, 3 an hour → 200 three times, then 429 quota_exceeded", status(4, call("trial-api-key"))},
		{"The standard plan's rate limit, 5 in 10 seconds → some 200, then 429 rate_limited", status(10, call("secret-api-key"))},
		{"The headers that tell what is left, and when to come back → 200 or 429", call("secret-api-key")},
	}
}

// show tells what runs and what to try.
func show(w io.Writer, g *gateway, dir string) {
	file := filepath.Join(dir, "manifests", "weather-mobile.yaml")
	line := lineOf(file, "suspended: false")
	fmt.Fprintf(w, `
Tollgate is running:

    client ──▶ Traefik with the plugin ──▶ upstream, which echoes requests
               %s      %s
                   ▲
                   │ table
               control plane ◀── manifests
               %s      %s

Traefik's configuration is in %s.
What they log is in %s
and %s.

`, g.traefik.URL, g.upstream.URL, g.plane.URL, filepath.Dir(file), dir,
		filepath.Join(dir, controlPlaneLog), filepath.Join(dir, traefikLog))
	for _, step := range steps(g.traefik.URL) {
		fmt.Fprintf(w, "# %s\n%s\n\n", step.what, step.command)
	}
	fmt.Fprintf(w, `# Check the manifests.
%[1]s lint %[2]s

# Why was the DELETE refused? It tells what led to operation_forbidden.
%[1]s explain --manifests %[2]s --api apps/weather-api --app weather-trial DELETE /weather

`, g.tollgate, filepath.Dir(file))
	fmt.Fprintf(w, `# Edit a manifest: suspend the first key, in line %d of %s.
# A second later the first command answers 401.
sed -i.bak '%ds/false/true/' %s

# Make a key of your own. Save the manifests that come with it, from the first
# --- on, as a file in the folder of manifests, and add %s under
# managedApplications in weather-mobile.yaml.
%s key new --namespace apps --name mine

Press Ctrl-C to end.
`, line, file, line, file, "`- name: mine`", g.tollgate)
}

// lineOf returns the number of the first line that has a text, or 1.
func lineOf(file, text string) int {
	f, err := os.Open(file)
	if err != nil {
		return 1
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		if strings.Contains(lines.Text(), text) {
			return n
		}
	}
	return 1
}
