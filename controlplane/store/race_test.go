//go:build race

package store

// underRace says that the race detector is there.
const underRace = true
