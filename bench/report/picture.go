package report

import (
	"encoding/xml"
	"fmt"
	"math"
	"strings"
)

// Measures of the picture, in pixels.
const (
	pictureWidth = 860
	barsFrom     = 330
	barsTo       = 780
	lineHeight   = 30
	barHeight    = 14
	headHeight   = 56
	footHeight   = 40
)

// Colours that can be read on white and on GitHub's dark background.
const style = `
  text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #24292f }
  .head { font-size: 16px; font-weight: 600 }
  .note { font-size: 12px; fill: #57606a }
  .grid { stroke: #d0d7de }
  .spread { stroke: #24292f; stroke-width: 1.5 }
  .bar { fill: #8c959f }
  .ours { fill: #2f81f7 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .note { fill: #9198a1 }
    .grid { stroke: #3d444d }
    .spread { stroke: #e6edf3 }
    .bar { fill: #6e7681 }
  }
`

// Picture returns the CPU of each row as an SVG.
func Picture(r *Results) string {
	var rows []Row
	most := 1.0
	for _, row := range r.Rows {
		if len(row.CPU) > 0 {
			rows = append(rows, row)
			most = math.Max(most, row.Summary.CPU.Max)
		}
	}
	step := gridStep(most)
	scale := (barsTo - barsFrom) / (math.Ceil(most/step) * step)
	height := headHeight + len(rows)*lineHeight + footHeight
	bottom := height - footHeight

	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %d" role="img" aria-labelledby="title">`+"\n", pictureWidth, height, height)
	fmt.Fprintf(&b, "<title id=\"title\">%s</title>\n<style>%s</style>\n", escape("Processor time of Traefik for a request, in microseconds"), style)
	fmt.Fprintf(&b, `<text class="head" x="16" y="26">%s</text>`+"\n", escape("Processor time of Traefik for a request, in µs"))
	fmt.Fprintf(&b, `<text class="note" x="16" y="45">%s</text>`+"\n",
		escape(fmt.Sprintf("median of %d rounds, and the least and the greatest; Traefik %s; blue: Tollgate", r.Setup.Rounds, r.Machine.Traefik)))
	for v := 0.0; v*scale <= barsTo-barsFrom+0.5; v += step {
		x := barsFrom + v*scale
		fmt.Fprintf(&b, `<line class="grid" x1="%.1f" x2="%[1]f" y1="%d" y2="%d"/>`+"\n", x, headHeight, bottom)
		fmt.Fprintf(&b, `<text class="note" x="%.1f" y="%d" text-anchor="middle">%.0f</text>`+"\n", x, bottom+18, v)
	}
	for i, row := range rows {
		bar(&b, row, headHeight+i*lineHeight, scale)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func bar(b *strings.Builder, row Row, y int, scale float64) {
	class, s := "bar", row.Summary.CPU
	if strings.HasPrefix(row.Title, "Tollgate") {
		class = "bar ours"
	}
	middle := float64(y) + lineHeight/2
	fmt.Fprintf(b, `<text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", barsFrom-10, middle+4.5, escape(short(row.Title)))
	fmt.Fprintf(b, `<rect class="%s" x="%d" y="%.1f" width="%.1f" height="%d" rx="2"/>`+"\n", class, barsFrom, middle-barHeight/2, s.Median*scale, barHeight)
	fmt.Fprintf(b, `<line class="spread" x1="%.1f" x2="%.1f" y1="%.1f" y2="%[3]f"/>`+"\n", barsFrom+s.Min*scale, barsFrom+s.Max*scale, middle)
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f">%.0f</text>`+"\n", barsFrom+s.Max*scale+8, middle+4.5, s.Median)
}

// gridStep returns a round distance that divides most into about six.
func gridStep(most float64) float64 {
	step := math.Pow(10, math.Floor(math.Log10(most/7)))
	for _, times := range []float64{1, 2, 5, 10} {
		if most/(step*times) <= 7 {
			return step * times
		}
	}
	return step * 10
}

// short cuts a title to what fits beside the bars.
func short(title string) string {
	const room = 48
	if runes := []rune(title); len(runes) > room {
		return string(runes[:room-1]) + "…"
	}
	return title
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // A Builder takes everything.
	return b.String()
}
