package registry

import "strings"

// challenge is one WWW-Authenticate header (RFC 9110 section 11.6.1).
type challenge struct {
	// scheme in lower case, and its parameters with names in lower case.
	scheme     string
	parameters map[string]string
}

// findChallenge returns the first header of a scheme.
func findChallenge(headers []string, scheme string) (challenge, bool) {
	for _, header := range headers {
		if c := parseChallenge(header); c.scheme == scheme {
			return c, true
		}
	}
	return challenge{}, false
}

// parseChallenge reads as much of a header as it can. The first value of a name counts.
func parseChallenge(header string) challenge {
	scheme, rest, _ := strings.Cut(strings.TrimSpace(header), " ")
	c := challenge{scheme: strings.ToLower(scheme), parameters: map[string]string{}}
	for {
		rest = strings.TrimLeft(rest, " \t,")
		name, after, found := strings.Cut(rest, "=")
		if !found {
			return c
		}
		var value string
		if value, rest, found = cutValue(strings.TrimLeft(after, " \t")); !found {
			return c
		}
		name = strings.ToLower(strings.TrimSpace(name))
		if _, before := c.parameters[name]; !before {
			c.parameters[name] = value
		}
	}
}

// cutValue takes a token or a quoted string off text.
func cutValue(text string) (value, rest string, found bool) {
	if !strings.HasPrefix(text, `"`) {
		end := strings.IndexAny(text, ", \t")
		if end < 0 {
			end = len(text)
		}
		return text[:end], text[end:], end > 0
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '"':
			return b.String(), text[i+1:], true
		case text[i] == '\\' && i+1 < len(text):
			i++
		}
		b.WriteByte(text[i])
	}
	return "", "", false
}
