package compress_test

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain finds goroutines that a test leaves behind, and with them programs: a goroutine waits for each.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
