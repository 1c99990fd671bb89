//go:build race

package sharing

// usualSchedules is how many are run if nothing is said. They have few goroutines, so
// with the race detector they only cost more.
const usualSchedules = 3
