// Package yaegi holds no code, only tests: they run the plugin as Traefik runs
// it, interpreted by Yaegi, and check that its sources stay within what Yaegi
// runs right.
package yaegi
