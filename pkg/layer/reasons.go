package layer

import (
	"fmt"

	"github.com/gild-project/gild/pkg/format/refusal"
)

func corrupt(format string, values ...any) error {
	return refusal.New(refusal.CorruptImage, fmt.Sprintf(format, values...))
}

func unsafe(format string, values ...any) error {
	return refusal.New(refusal.UnsafeImage, fmt.Sprintf(format, values...))
}

func tooMuch(format string, values ...any) error {
	return refusal.New(refusal.UnsupportedFormat, fmt.Sprintf(format, values...))
}
