package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// completionFlag prints the script for a shell.
type completionFlag string

var shells = map[string]func(*kong.Kong) string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}

func (*completionFlag) BeforeReset(k *kong.Kong, ctx *kong.Context, path *kong.Path) error {
	shell := ctx.Value(path).Elem().String()
	script, ok := shells[shell]
	if !ok {
		return fmt.Errorf("--completion must be one of %s, not %q", strings.Join(words(path.Flag.Value), ", "), shell)
	}
	return show(k, script(k))
}

// words are what a flag can be set to, if these are a few words.
func words(v *kong.Value) []string {
	if v.Enum == "" {
		return nil
	}
	return v.EnumSlice()
}

// flags are those that can be completed.
func flags(k *kong.Kong) []*kong.Flag {
	return slices.DeleteFunc(slices.Clone(k.Model.Flags), func(f *kong.Flag) bool { return f.Hidden })
}

// spellings are how a flag can be given: --help and -h, or --sync and --no-sync.
func spellings(f *kong.Flag) []string {
	all := []string{"--" + f.Name}
	switch f.Tag.Negatable {
	case "":
	case "_":
		all = append(all, "--no-"+f.Name)
	default:
		all = append(all, "--"+f.Tag.Negatable)
	}
	if f.Short != 0 {
		all = append(all, "-"+string(f.Short))
	}
	return all
}

// bashCompletion is for every bash since 3.2, that of macOS.
func bashCompletion(k *kong.Kong) string {
	// How compgen is to look for the rest of a word.
	how := func(v *kong.Value) string {
		switch path := v.Tag.Get("path"); {
		case path == "file":
			return "-f"
		case path == "dir":
			return "-d"
		case len(words(v)) > 0:
			return "-W $'" + strings.Join(words(v), `\n`) + "'"
		}
		return ""
	}
	var all, valued, free []string
	var of, at strings.Builder
	for _, f := range flags(k) {
		all = append(all, spellings(f)...)
		if f.IsBool() {
			continue
		}
		valued = append(valued, spellings(f)...)
		if h := how(f.Value); h != "" {
			fmt.Fprintf(&of, "\t%s) how=(%s) ;;\n", strings.Join(spellings(f), "|"), h)
		} else {
			free = append(free, spellings(f)...)
		}
	}
	if len(free) > 0 {
		fmt.Fprintf(&of, "\t%s) return ;;\n", strings.Join(free, "|"))
	}
	for i, arg := range k.Model.Positional {
		if h := how(arg); h != "" {
			fmt.Fprintf(&at, "\t\t\t%d) how=(%s) ;;\n", i, h)
		}
	}
	return fmt.Sprintf(`# Completion of %[1]s for bash. To be sourced, or a file named %[1]s in
# ~/.local/share/bash-completion/completions.
_accio_%[2]s() {
	local IFS=$'\n' cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} how=() i n=0 word
	COMPREPLY=()
	# bash makes three words of --flag=value.
	if [[ $cur == = ]]; then
		cur=
	elif [[ $prev == = ]]; then
		prev=${COMP_WORDS[COMP_CWORD-2]}
	fi
	case $prev in
%[3]s	*)
		if [[ $cur == -* ]]; then
			how=(-W $'%[4]s')
		else
			for ((i = 1; i < COMP_CWORD; i++)); do
				case ${COMP_WORDS[i]} in
				%[5]s) [[ ${COMP_WORDS[i+1]} == = ]] && ((i++)); ((i++)) ;;
				-?*) ;;
				*) ((n++)) ;;
				esac
			done
			case $n in
%[6]s			esac
		fi
		;;
	esac
	[[ ${#how[@]} -gt 0 ]] || return
	[[ ${how[0]} == -W ]] || compopt -o filenames 2>/dev/null
	while IFS= read -r word; do
		COMPREPLY+=("$word")
	done < <(compgen "${how[@]}" -- "$cur")
}
complete -F _accio_%[2]s %[1]s
`, k.Model.Name, identifier(k), of.String(), strings.Join(all, `\n`), strings.Join(valued, "|"), at.String())
}

// zshCompletion is for _arguments (zshcompsys(1)).
func zshCompletion(k *kong.Kong) string {
	action := func(v *kong.Value) string {
		switch path := v.Tag.Get("path"); {
		case path == "file":
			return "_files"
		case path == "dir":
			return "_files -/"
		case len(words(v)) > 0:
			return "(" + strings.Join(words(v), " ") + ")"
		case v.Flag == nil:
			return "()" // flags are completed in the place of an argument, too
		}
		return " " // says what is wanted
	}
	plain := func(text string) string {
		return strings.NewReplacer(`\`, `\\`, "[", `\[`, "]", `\]`, ":", `\:`, "'", `'\''`).Replace(text)
	}
	var specs []string
	for _, f := range flags(k) {
		value, others := "", ""
		if !f.IsBool() {
			value = ":" + plain(f.FormatPlaceHolder()) + ":" + action(f.Value)
		}
		if f.IsCumulative() {
			others = "*"
		} else if len(spellings(f)) > 1 {
			others = "(" + strings.Join(spellings(f), " ") + ")"
		}
		for _, name := range spellings(f) {
			if value != "" && strings.HasPrefix(name, "--") {
				name += "="
			}
			specs = append(specs, fmt.Sprintf("'%s%s[%s]%s'", others, name, plain(firstSentence(f.Help)), value))
		}
	}
	for i, arg := range k.Model.Positional {
		specs = append(specs, fmt.Sprintf("'%d:%s:%s'", i+1, plain(arg.Name), action(arg)))
	}
	return fmt.Sprintf(`#compdef %[1]s
# Completion of %[1]s for zsh. To be sourced after compinit, or a file named _%[1]s in
# a directory of fpath.
_accio_%[2]s() {
	_arguments -s -S \
		%[3]s
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
	_accio_%[2]s "$@"
else
	compdef _accio_%[2]s %[1]s
fi
`, k.Model.Name, identifier(k), strings.Join(specs, " \\\n\t\t"))
}

// fishCompletion is for fish since 3.0.
func fishCompletion(k *kong.Kong) string {
	const files = " -F"
	quote := func(text string) string {
		return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
	}
	action := func(v *kong.Value) string {
		switch path := v.Tag.Get("path"); {
		case path == "file":
			return files
		case path == "dir":
			return " -a '(__fish_complete_directories (commandline -ct))'"
		case len(words(v)) > 0:
			return " -a " + quote(strings.Join(words(v), " "))
		}
		return ""
	}
	var b strings.Builder
	name := quote(k.Model.Name)
	fmt.Fprintf(&b, `# Completion of %[1]s for fish. To be sourced, or a file named %[1]s.fish in
# ~/.config/fish/completions.
complete -c %[2]s -f
`, k.Model.Name, name)
	for _, f := range flags(k) {
		fmt.Fprintf(&b, "complete -c %s", name)
		for _, s := range spellings(f) {
			if long, ok := strings.CutPrefix(s, "--"); ok {
				fmt.Fprint(&b, " -l ", long)
			} else {
				fmt.Fprint(&b, " -s ", s[1:])
			}
		}
		switch a := action(f.Value); {
		case f.IsBool():
		case a == files:
			fmt.Fprint(&b, " -r", a)
		default:
			fmt.Fprint(&b, " -x", a)
		}
		fmt.Fprintf(&b, " -d %s\n", quote(firstSentence(f.Help)))
	}
	for i, arg := range k.Model.Positional {
		if a := action(arg); a != "" {
			// The words so far, the program's name among them, but the flags. The
			// value of a flag can be a word of its own, so there may be more.
			fmt.Fprintf(&b, "complete -c %s -n 'test (count (string match -v -- \"-*\" (commandline -opc))) -ge %d'%s\n", name, i+1, a)
		}
	}
	return b.String()
}

// identifier is the program's name as a part of one.
func identifier(k *kong.Kong) string {
	return strings.ReplaceAll(strings.TrimPrefix(k.Model.Name, installedPrefix), "-", "_")
}
