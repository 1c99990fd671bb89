//go:build race

package shares

// usualSchedules is how many are simulated if nothing is said. They have no
// goroutines, so with the race detector they only cost more.
const usualSchedules = 40
