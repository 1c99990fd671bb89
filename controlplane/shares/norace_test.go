//go:build !race

package shares

// usualSchedules is how many are simulated if nothing is said.
const usualSchedules = 250
