package main

import (
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

func TestOptions(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		says string
	}{
		"defaults":             {},
		"no namespace":         {[]string{"--namespace="}, "--namespace"},
		"no polls":             {[]string{"--max-polls=0"}, "--max-polls "},
		"no polls of one host": {[]string{"--max-polls-per-host=-1"}, "--max-polls-per-host"},
	} {
		t.Run(name, func(t *testing.T) {
			var o options
			flags := pflag.NewFlagSet("poller", pflag.ContinueOnError)
			o.bindFlags(flags)
			require.NoError(t, flags.Parse(test.args))
			if test.says == "" {
				require.NoError(t, o.validate())
				return
			}
			require.ErrorContains(t, o.validate(), test.says)
		})
	}
}
