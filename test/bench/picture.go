package main

import (
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// Measures of the picture, in its own units.
const (
	pictureLeft  = 210
	pictureWidth = 560
	barHeight    = 7
	rowHeight    = 30
	pictureTop   = 54
)

// bar is one contender's in the picture.
type bar struct {
	name, colour string
	of           func(*measured) []float64
}

func bars() []bar {
	take := func(name string) func(*measured) []float64 {
		return func(m *measured) []float64 { return m.times(name) }
	}
	return []bar{
		{gild, "#b8860b", take(gild)},
		{bestPeer, "#8a94a0", take(bestPeer)},
		{theFloor, "#d8dde2", take(theFloor)},
	}
}

// draw leaves the picture in dir.
func (r *report) draw(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "report.svg"), []byte(r.picture()), 0o644); err != nil {
		return fmt.Errorf("drawing the report: %w", err)
	}
	return nil
}

// picture draws the medians as bars, each row in its own scale: what counts are ratios.
func (r *report) picture() string {
	var svg strings.Builder
	height := pictureTop + rowHeight*len(r.Rows) + 10
	add := func(format string, args ...any) { _, _ = fmt.Fprintf(&svg, format+"\n", args...) }
	add(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">`, pictureLeft+pictureWidth+70, height)
	add(`<rect width="100%%" height="100%%" fill="#fff"/>`)
	add(`<text x="10" y="18" font-size="13">Seconds to import the disk, median; shorter is better. Each row has its own scale.</text>`)
	for i, b := range bars() {
		x := 10 + 110*i
		add(`<rect x="%d" y="28" width="10" height="10" fill="%s"/><text x="%d" y="37">%s</text>`, x, b.colour, x+15, html.EscapeString(b.name))
	}
	for i, row := range r.Rows {
		top := pictureTop + rowHeight*i
		add(`<text x="%d" y="%d" text-anchor="end">%s</text>`, pictureLeft-8, top+15, html.EscapeString(row.Cell))
		longest := 0.0
		for _, b := range bars() {
			if s := median(b.of(row)); !math.IsNaN(s) {
				longest = max(longest, s)
			}
		}
		for n, b := range bars() {
			s := median(b.of(row))
			if math.IsNaN(s) {
				continue
			}
			width, y := s/longest*pictureWidth, top+n*(barHeight+1)
			add(`<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`, pictureLeft, y, width, barHeight, b.colour)
			add(`<text x="%.1f" y="%d" font-size="8">%.2f</text>`, pictureLeft+width+4, y+barHeight, s)
		}
	}
	add(`</svg>`)
	return svg.String()
}
