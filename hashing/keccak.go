package hashing

import "encoding/binary"

// interpretedSum computes SHAKE-256 without the host. It is written for an
// interpreter, where each statement counts: locals instead of indexing, shifts
// instead of calls.
func interpretedSum(key string) []byte {
	state := make([]uint64, 25)
	for blocks := []byte(key + paddings[len(key)%rate]); len(blocks) > 0; blocks = blocks[rate:] {
		for i := 0; i < rate/8; i++ {
			state[i] ^= binary.LittleEndian.Uint64(blocks[8*i:])
		}
		permute(state)
	}
	sum := make([]byte, size)
	for i := 0; i < size/8; i++ {
		binary.LittleEndian.PutUint64(sum[8*i:], state[i])
	}
	return sum
}

// permute is Keccak-f[1600] of FIPS 202, section 3, on 25 lanes that are
// numbered x + 5y.
func permute(a []uint64) {
	for _, constant := range roundConstants {
		// Theta: each lane takes in the parity of two neighbouring columns.
		c0 := a[0] ^ a[5] ^ a[10] ^ a[15] ^ a[20]
		c1 := a[1] ^ a[6] ^ a[11] ^ a[16] ^ a[21]
		c2 := a[2] ^ a[7] ^ a[12] ^ a[17] ^ a[22]
		c3 := a[3] ^ a[8] ^ a[13] ^ a[18] ^ a[23]
		c4 := a[4] ^ a[9] ^ a[14] ^ a[19] ^ a[24]
		d0 := c4 ^ (c1<<1 | c1>>63)
		d1 := c0 ^ (c2<<1 | c2>>63)
		d2 := c1 ^ (c3<<1 | c3>>63)
		d3 := c2 ^ (c4<<1 | c4>>63)
		d4 := c3 ^ (c0<<1 | c0>>63)
		for y := 0; y < 25; y += 5 {
			a[y] ^= d0
			a[y+1] ^= d1
			a[y+2] ^= d2
			a[y+3] ^= d3
			a[y+4] ^= d4
		}

		// Rho and pi: lanes are rotated and trade places along one cycle.
		carried := a[1]
		for _, step := range laneCycle {
			kept := a[step.lane]
			a[step.lane] = carried<<step.rotate | carried>>(64-step.rotate)
			carried = kept
		}

		// Chi: the one step that is not linear, row by row.
		for y := 0; y < 25; y += 5 {
			a0, a1, a2, a3, a4 := a[y], a[y+1], a[y+2], a[y+3], a[y+4]
			a[y] = a0 ^ (^a1 & a2)
			a[y+1] = a1 ^ (^a2 & a3)
			a[y+2] = a2 ^ (^a3 & a4)
			a[y+3] = a3 ^ (^a4 & a0)
			a[y+4] = a4 ^ (^a0 & a1)
		}

		// Iota.
		a[0] ^= constant
	}
}

// laneCycle lists the lanes in the order in which rho and pi visit them,
// starting from lane 1, each with the rotation of the lane that lands there.
var laneCycle = cycleOfLanes()

type laneStep struct {
	lane   int
	rotate uint
}

// cycleOfLanes follows FIPS 202, algorithms 2 and 3: (x, y) goes to
// (y, 2x + 3y), and the t-th lane is rotated by (t+1)(t+2)/2.
func cycleOfLanes() []laneStep {
	steps := make([]laneStep, 24)
	x, y := 1, 0
	for t := range steps {
		x, y = y, (2*x+3*y)%5
		steps[t] = laneStep{lane: x + 5*y, rotate: uint((t+1)*(t+2)/2) % 64}
	}
	return steps
}

// roundConstants are those of FIPS 202, algorithms 5 and 6.
var roundConstants = constantsOfRounds()

func constantsOfRounds() []uint64 {
	constants := make([]uint64, 24)
	register := uint(1)
	for round := range constants {
		for j := uint(0); j <= 6; j++ {
			if register&1 != 0 {
				constants[round] |= 1 << (1<<j - 1)
			}
			register <<= 1
			if register&0x100 != 0 {
				register ^= 0x171
			}
		}
	}
	return constants
}
