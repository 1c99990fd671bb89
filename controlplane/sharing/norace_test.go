//go:build !race

package sharing

// usualSchedules is how many are run if nothing is said.
const usualSchedules = 60
