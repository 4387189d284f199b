package importer

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes. As a flag it reads 1024, 20Gi or 20G, as Kubernetes
// writes whole quantities, and prints the largest binary unit that is exact.
type Size int64

type unit struct {
	suffix string
	bytes  int64
}

// units lists the binary units first and largest first: String takes the first that divides.
func units() []unit {
	return []unit{
		{"Pi", 1 << 50}, {"Ti", 1 << 40}, {"Gi", 1 << 30}, {"Mi", 1 << 20}, {"Ki", 1 << 10},
		{"P", 1e15}, {"T", 1e12}, {"G", 1e9}, {"M", 1e6}, {"k", 1e3},
	}
}

// Set reads a flag value.
func (s *Size) Set(text string) error {
	number, factor := text, int64(1)
	for _, u := range units() {
		if rest, ok := strings.CutSuffix(text, u.suffix); ok {
			number, factor = rest, u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return fmt.Errorf("size %q is not a whole number with a unit such as Mi, Gi or Ti", text)
	}
	if n > math.MaxInt64/factor || n < math.MinInt64/factor {
		return fmt.Errorf("size %q is too large", text)
	}
	*s = Size(n * factor)
	return nil
}

// String writes the form that Set reads. Zero is the empty string: not set.
func (s *Size) String() string {
	n := int64(*s)
	if n == 0 {
		return ""
	}
	for _, u := range units() {
		if strings.HasSuffix(u.suffix, "i") && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.suffix
		}
	}
	return strconv.FormatInt(n, 10)
}

// Type names the value in the help text.
func (s *Size) Type() string { return "SIZE" }

// Human writes bytes for people, in binary units with at most one decimal, for example "1.5 GiB".
func Human(n int64) string {
	for _, u := range units()[:5] {
		if n >= u.bytes {
			text := strconv.FormatFloat(float64(n)/float64(u.bytes), 'f', 1, 64)
			return strings.TrimSuffix(text, ".0") + " " + u.suffix + "B"
		}
	}
	return strconv.FormatInt(n, 10) + " B"
}
