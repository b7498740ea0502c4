package conformance

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ErrCommand is what Suite.Run returns for a command that cannot be run.
var ErrCommand = errors.New("the command cannot be run")

// command is a program to be started, and the first of its arguments.
type command struct {
	env  []string // to be added, as NAME=value
	argv []string
}

// parseCommand reads a command as a shell would that expands nothing, and looks
// for its program, in this process's PATH. Words that name a file here are made
// absolute, since programs are run elsewhere. The name of a directory is left alone:
// it is more often that of a module, as in `python3 -m server`.
func parseCommand(text string) (c command, err error) {
	words, err := split(text)
	if err != nil {
		return command{}, fmt.Errorf("%w: %q: %w", ErrCommand, text, err)
	}
	for len(words) > 0 && words[0].assigns {
		c.env = append(c.env, words[0].text)
		words = words[1:]
	}
	if len(words) == 0 {
		return command{}, fmt.Errorf("%w: %q names no program", ErrCommand, text)
	}
	program := words[0].text
	if err := lookUp(program); err != nil {
		return command{}, fmt.Errorf("%w: %q: %w", ErrCommand, program, err)
	}
	for i, w := range words {
		inPath := i == 0 && !strings.Contains(program, "/")
		if !inPath && isFile(w.text) {
			if w.text, err = filepath.Abs(w.text); err != nil {
				return command{}, err
			}
		}
		c.argv = append(c.argv, w.text)
	}
	return c, nil
}

// lookUp says why a program cannot be run, and what could be meant.
func lookUp(program string) error {
	_, err := exec.LookPath(program)
	if why := (*exec.Error)(nil); errors.As(err, &why) {
		err = why.Err
	}
	if why := (*fs.PathError)(nil); errors.As(err, &why) {
		err = why.Err
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; make it executable, or write its interpreter before it", err)
	case !strings.Contains(program, "/") && isFile(program):
		return fmt.Errorf("%w; write ./%s for the file in this directory", err, program)
	}
	return fmt.Errorf("%w; is the name right, from the directory where you are?", err)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// word is one of a command's.
type word struct {
	text    string
	assigns bool // it begins with NAME=, and not in quotes
}

// split splits a command into words by the rules of the POSIX shell (XCU 2.2 and
// 2.3). Where a shell would do more than that it is an error.
func split(text string) (words []word, err error) {
	const blank, special = " \t", "\n;&|<>()$`*?"
	for {
		text = strings.TrimLeft(text, blank)
		if text == "" {
			return words, nil
		}
		if text[0] == '#' || text[0] == '~' {
			return nil, forShells(text[0])
		}
		var w word
		bare := true // nothing of the word was in quotes so far
		var b strings.Builder
		for text != "" && !strings.Contains(blank, text[:1]) {
			c := text[0]
			text = text[1:]
			switch {
			case c == '\'':
				quoted, rest, found := strings.Cut(text, "'")
				if !found {
					return nil, errors.New("a ' is not closed")
				}
				b.WriteString(quoted)
				text, bare = rest, false
			case c == '"':
				if text, err = splitQuoted(&b, text); err != nil {
					return nil, err
				}
				bare = false
			case c == '\\' && text == "":
				return nil, errors.New(`nothing follows the last \`)
			case c == '\\' && text[0] == '\n': // the line goes on
				text = text[1:]
			case c == '\\':
				b.WriteByte(text[0])
				text, bare = text[1:], false
			case strings.IndexByte(special, c) >= 0:
				return nil, forShells(c)
			default:
				if c == '=' && bare && isName(b.String()) {
					w.assigns = true
				}
				b.WriteByte(c)
			}
		}
		w.text = b.String()
		words = append(words, w)
	}
}

// splitQuoted takes what stands between double quotes, after the first of them.
func splitQuoted(b *strings.Builder, text string) (rest string, err error) {
	for text != "" {
		c := text[0]
		text = text[1:]
		switch {
		case c == '"':
			return text, nil
		case c == '$' || c == '`':
			return "", forShells(c)
		case c == '\\' && text != "" && strings.Contains("$`\"\\\n", text[:1]):
			if text[0] != '\n' {
				b.WriteByte(text[0])
			}
			text = text[1:]
		default:
			b.WriteByte(c)
		}
	}
	return "", errors.New(`a " is not closed`)
}

func forShells(c byte) error {
	return fmt.Errorf("only a shell knows what %q means; quote it, or write sh -c '… exec PROGRAM \"$@\"' sh", c)
}

// isName says whether s can be the name of a variable.
func isName(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == "" && (s[0] < '0' || s[0] > '9')
}
