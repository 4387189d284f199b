package cdi_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/robfig/cron/v3"
	"github.com/stretchr/testify/require"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	apiservercel "k8s.io/apiserver/pkg/apis/cel"
)

// scheduleRule tells whether a DataImportCron may have a schedule, by the rules of that field alone.
func scheduleRule(t *testing.T) func(string) bool {
	t.Helper()
	spec := loadKind(t, "dataimportcrons").Structural.Properties["spec"]
	field := spec.Properties["schedule"]
	require.NotNil(t, field.ValueValidation.MaxLength)
	rules := cel.NewValidator(&field, false, apiservercel.PerCallLimit)
	return func(schedule string) bool {
		refused, _ := rules.Validate(t.Context(), nil, &field, schedule, nil, apiservercel.RuntimeCELCostBudget)
		return len(refused) == 0 && int64(len(schedule)) <= *field.ValueValidation.MaxLength
	}
}

// Every schedule here is one that the parser takes too.
func TestSchedules(t *testing.T) {
	takes := scheduleRule(t)
	for _, schedule := range []string{
		"30 1 * * 1", "* * * * *", "? ? ? ? ?", "*/5 */2 */3 */4 */6", "0 0 1 1 0", "59 23 31 12 6", "00 01 05 07 00",
		"1,2,3 4-5 6-7/2 8,9-10 1-5", "5/15 * * * *", "?/5 * * * *", "0 0 * jan-Mar,DEC sun,Mon-fri", "  0\t0  * * *  ", "0 0 * * *\n",
		"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly",
		"@every 1h", "@every 1h30m", "@every 1.5h", "@every .5h", "@every 90s", "@every +5m", "@every 1000ms", "@every 5000000µs",
		"CRON_TZ=Europe/Vienna 0 3 * * *", "TZ=UTC @daily", "TZ= 0 3 * * *", "CRON_TZ=Etc/GMT+5  0 3 * * *", "CRON_TZ=America/Port-au-Prince @every 1h",
	} {
		require.True(t, takes(schedule), "%q", schedule)
		_, err := cron.ParseStandard(schedule)
		require.NoError(t, err, "%q", schedule)
	}
}

func TestSchedulesThatAreRefused(t *testing.T) {
	takes := scheduleRule(t)
	for _, schedule := range []string{
		" ", "daily", "* * * *", "* * * * * *", "0 0 0 * * *", "60 * * * *", "61 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 0 *", "* * * 13 *", "* * * * 7",
		"-1 * * * *", "1- * * * *", "-5 * * * *", "*/0 * * * *", "*/ * * * *", "*/-1 * * * *", "5/ * * * *", "a * * * *", "* * * foo *", "* * * * mo",
		", * * * *", "1, * * * *", "1,,2 * * * *", "*-5 * * * *", "1-2-3 * * * *", "1/2/3 * * * *", "+5 * * * *", "1.5 * * * *", "1 -2 * * *",
		"@reboot", "@Daily", "@every", "@every 1", "@every h", "@every 1d", "@every -1h", "@every 1h 30m", "@daily ", " @daily", "@daily @hourly", "@",
		"CRON_TZ=UTC", "TZ=UTC", "TZ=", "CRON_TZ=UTC ", "CRON_TZ=a b * * * * *", "CRON_TZ=../etc/passwd * * * * *", "tz=UTC * * * * *", "ZONE=UTC * * * * *",
		"0 0 * * *\n0 1 * * *\n", strings.Repeat("1,", 200) + "1 * * * *",
	} {
		require.False(t, takes(schedule), "%q", schedule)
	}
}

// The parser cannot bear some schedules: it panics. It must bear each that we take, and may refuse it only for what an
// expression cannot tell.
func TestParserBearsWhatIsTaken(t *testing.T) {
	takes := scheduleRule(t)
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(texts ...string) string { return texts[random.IntN(len(texts))] }
	taken := 0
	for range 5000 {
		schedule := pick("", "", "", "", " ", "TZ=", "TZ= ", "CRON_TZ=UTC ", "TZ=Nowhere/Land  ", "@every ", "@")
		for field := range pick("11111", "11111", "11111", "1111", "111111", "1", "") {
			if field > 0 {
				schedule += pick(" ", " ", " ", " ", "  ", "\t", "")
			}
			schedule += pick("*", "*", "*/5", "1", "1-5", "5-1", "?", "0", "1,2", "3/2", "mon", "JAN", "1,", "60", "/2", "1h", "daily")
		}
		if schedule == "" || !takes(schedule) {
			continue
		}
		taken++
		require.NotPanics(t, func() {
			if _, err := cron.ParseStandard(schedule); err != nil {
				require.Regexp(t, "beyond end of range|bad location", err.Error(), "%q", schedule)
			}
		}, schedule)
	}
	require.Greater(t, taken, 50)
}
