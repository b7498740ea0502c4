package cli

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/pflag"
)

const (
	envPrefix  = "ACCIO_"
	configFlag = "config"

	// maxConfig bounds the configuration file. An endless file, such as a device,
	// is an error.
	maxConfig = 1 << 20
)

// Parse reads args, the environment and the configuration file into cmd, which must
// be fresh. The command line overrides the environment, which overrides the file, which
// overrides the defaults.
//
// Parse ignores empty variables, and variables of flags that args set. It checks the
// whole file. The file can set arguments that args omit from the right. An error names
// the flag, the variable or the line of the file, and its exit code is [ExitUsage].
//
// A flag such as --help prints something and ends the process.
func Parse(cmd Command, p Program, args []string) (*FlagSet, error) {
	f := newFlagSet(cmd, p)
	f.given = args
	shown, err := f.parse(args)
	if shown {
		if err == nil {
			os.Exit(0)
		}
		return nil, Shown(err)
	}
	if err != nil {
		return nil, Exit(ExitUsage, fmt.Errorf("%w; see %s --help", err, p.Name))
	}
	return f, nil
}

// hidden marks an argument that pflag must not take for a flag.
const hidden = "\x00"

// hideNumbers marks arguments such as -1, which is a wrong port rather than a flag.
func hideNumbers(args []string) []string {
	args = slices.Clone(args)
	for i, arg := range args {
		if len(arg) > 1 && arg[0] == '-' && '0' <= arg[1] && arg[1] <= '9' {
			args[i] = hidden + arg
		}
	}
	return args
}

// parse reports whether a flag such as --help has printed something.
func (f *FlagSet) parse(args []string) (shown bool, err error) {
	given := make(map[string][]string)
	if err := f.all.ParseAll(hideNumbers(args), func(flag *pflag.Flag, text string) error {
		given[flag.Name] = append(given[flag.Name], strings.TrimPrefix(text, hidden))
		return nil
	}); err != nil {
		return false, f.explain(err)
	}
	f.own.VisitAll(func(flag *pflag.Flag) {
		if err == nil {
			err = f.set(flag, "--"+flag.Name, given[flag.Name])
		}
	})
	if err != nil {
		return false, err
	}
	// A mistake in the file must not keep the user from --help.
	if show := f.output(); show != nil {
		return true, show(os.Stdout)
	}
	for i, text := range f.all.Args() {
		text = strings.TrimPrefix(text, hidden)
		if i == len(f.arguments) {
			return false, fmt.Errorf("unexpected argument %q", text)
		}
		given[f.arguments[i].Name] = []string{text}
	}
	file, err := f.openFile(given[configFlag] != nil)
	if err != nil {
		return false, err
	}
	for _, flag := range f.settable() {
		if err := f.merge(flag, file, given[flag.Name]); err != nil {
			return false, err
		}
	}
	return false, f.validate()
}

// explain adds a suggestion to an error of package pflag, or removes a value from it.
func (f *FlagSet) explain(err error) error {
	unknown := (*pflag.NotExistError)(nil)
	if !errors.As(err, &unknown) || unknown.GetSpecifiedShortnames() != "" {
		text, _, _ := strings.Cut(err.Error(), "=") // a value can be a secret
		return errors.New(text)
	}
	var known []string
	f.all.VisitAll(func(flag *pflag.Flag) { known = append(known, "--"+flag.Name) })
	return fmt.Errorf("%w%s", err, suggest("--"+unknown.GetSpecifiedName(), known))
}

// merge sets a flag or argument from the file, the environment and the command line.
func (f *FlagSet) merge(flag *pflag.Flag, file *file, given []string) error {
	key, inFile := file.keys[keyName(flag.Name)]
	if inFile {
		place := fmt.Sprintf("%s:%d: %s", file.name, key.line, keyName(flag.Name))
		texts, err := key.texts(flag)
		if err != nil {
			return fmt.Errorf("%s: %w", place, err)
		}
		if err := f.set(flag, place, texts); err != nil {
			return err
		}
	}
	if f.all.Lookup(flag.Name) == nil { // an argument
		if given == nil && !inFile {
			return fmt.Errorf("missing argument %s", flag.Name)
		}
		return f.set(flag, flag.Name, given)
	}
	place := "--" + flag.Name
	if text := os.Getenv(envName(flag.Name)); given == nil && text != "" {
		place, given = envName(flag.Name), []string{text}
	}
	if _, ok := flag.Value.(pflag.SliceValue); ok && given != nil {
		given = strings.Split(strings.Join(given, ","), ",")
	}
	return f.set(flag, place, given)
}

// set sets a flag to texts, if any. They replace the elements of a list.
func (f *FlagSet) set(flag *pflag.Flag, place string, texts []string) (err error) {
	if texts == nil {
		return nil
	}
	f.places[flag.Name] = place
	if list, ok := flag.Value.(pflag.SliceValue); ok {
		err = list.Replace(texts)
	} else {
		for _, text := range texts {
			err = errors.Join(err, flag.Value.Set(text))
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", place, err)
	}
	return nil
}

// validate calls the Validate method of the command.
func (f *FlagSet) validate() error {
	v, ok := f.command.(interface{ Validate() error })
	if !ok {
		return nil
	}
	err := v.Validate()
	if wrong := (*flagError)(nil); errors.As(err, &wrong) {
		return fmt.Errorf("%s: %w", cmp.Or(f.places[wrong.flag], "--"+wrong.flag), wrong.error)
	}
	return err
}

// FlagError says that a flag does not fit the other flags. The Validate method of a
// [Command] returns it. The user sees where the flag was set.
func FlagError(flag string, err error) error { return &flagError{flag, err} }

type flagError struct {
	flag string
	error
}

func (e *flagError) Unwrap() error { return e.error }

// envName returns the environment variable of a flag.
func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// keyName returns the key of a flag or argument in the configuration file.
func keyName(name string) string { return strings.ToLower(name) }

// file is a configuration file.
type file struct {
	name string
	keys map[string]key
}

// key is a key of the file.
type key struct {
	value any
	line  int
}

// openFile reads the configuration file. All its keys must be known.
func (f *FlagSet) openFile(given bool) (*file, error) {
	from := "--" + configFlag
	if !given {
		f.config, from = os.Getenv(envName(configFlag)), envName(configFlag)
		if f.config == "" {
			return &file{}, nil
		}
	}
	text, err := readAll(f.config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // written by editors on Windows
	var values map[string]any
	if err := toml.Unmarshal(text, &values); err != nil {
		if wrong := (*toml.DecodeError)(nil); errors.As(err, &wrong) {
			row, column := wrong.Position()
			return nil, fmt.Errorf("%s:%d:%d: %s", f.config, row, column, strings.TrimPrefix(wrong.Error(), "toml: "))
		}
		return nil, fmt.Errorf("%s: %w", f.config, err)
	}
	// A map has no line numbers. A struct without fields reports each key as unknown,
	// with its line.
	read := &file{f.config, make(map[string]key)}
	var all *toml.StrictMissingError
	if err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&struct{}{}); errors.As(err, &all) {
		for _, missing := range all.Errors {
			row, _ := missing.Position()
			path := missing.Key()
			if err := f.known(strings.Join(path, ".")); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", f.config, row, err)
			}
			read.keys[path[0]] = key{values[path[0]], row}
		}
	}
	return read, nil
}

func readAll(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(text) > maxConfig {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxConfig)
	}
	return text, err
}

// known returns an error if the program has no such key.
func (f *FlagSet) known(key string) error {
	var keys []string
	for _, flag := range f.settable() {
		keys = append(keys, keyName(flag.Name))
	}
	switch {
	case slices.Contains(keys, key):
		return nil
	case f.own.Lookup(key) != nil:
		return fmt.Errorf("%s belongs on the command line", key)
	}
	hint := suggest(key, keys)
	if hint == "" {
		hint = "; keys are the names of flags, such as " + keys[len(f.arguments)]
	}
	return fmt.Errorf("unknown key %q%s", key, hint)
}

// texts returns the values as the command line would have them.
func (k key) texts(flag *pflag.Flag) ([]string, error) {
	values := []any{k.value}
	elements, isList := k.value.([]any)
	if _, wanted := flag.Value.(pflag.SliceValue); wanted != isList {
		if wanted {
			return nil, errors.New("must be a list, such as [\"…\", \"…\"]")
		}
		return nil, errors.New("must be one value, not a list")
	}
	if isList {
		values = elements
	}
	texts := []string{}
	for _, v := range values {
		text, isText := v.(string)
		switch v.(type) {
		case map[string]any, []any:
			return nil, errors.New("must be one value, not a table")
		}
		if !isText {
			switch flag.Value.Type() {
			case "string", "file", "dir", "enum", "list":
				return nil, fmt.Errorf("must be a text in quotes, not %v", v)
			}
			text = fmt.Sprint(v)
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// suggest returns a hint to the known name that is most like name, or an empty string.
func suggest(name string, known []string) string {
	near, least := "", 3
	for _, k := range known {
		if d := distance(strings.ToLower(name), strings.ToLower(k)); d < least {
			near, least = k, d
		}
	}
	if near == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", near)
}

// distance returns the Levenshtein distance: the number of letters to insert, delete
// or replace.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			next := diagonal
			if a[i] != b[j] {
				next = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
