# SPDX-License-Identifier: Apache-2.0
# Completion of cloister(1) for bash; goes to share/bash-completion/completions/cloister.

# The first column of what `cloister COMMAND` lists.
_cloister_list()
{
	# The options that say whose sandboxes, and at which socket, count here too.
	local -a who=()
	local i
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-s | --socket | -t | --tenant) who+=("${COMP_WORDS[i]}" "${COMP_WORDS[i + 1]}") ;;
		esac
	done
	"${COMP_WORDS[0]}" "${who[@]}" --timeout 2 "$1" 2>/dev/null | awk 'NR > 1 { print $1 }'
}

# The words of `cloister image`, whose name is the word of that number.
_cloister_image()
{
	local at=$1 cur=${COMP_WORDS[COMP_CWORD]} kinds="kernel initramfs disk" words="" i
	local -a given=() config=()
	for ((i = at + 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--config)
			config=(--config "${COMP_WORDS[i + 1]}")
			((i++))
			;;
		-*) ;;
		*) given+=("${COMP_WORDS[i]}") ;;
		esac
	done
	case ${#given[@]}:${given[0]} in
	0:) words="ls inspect import rm" ;;
	1:*) words=$kinds ;;
	2:inspect | 2:rm)
		words=$("${COMP_WORDS[0]}" --timeout 2 image "${config[@]}" ls "${given[1]}" \
			2>/dev/null | awk 'NR > 1 { print $1 }')
		;;
	3:import)
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

_cloister()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local commands="create run ls inspect pause resume power-button balloon resize counters debug
		snapshot hibernate wake templates image destroy console logs connect events drain info check help
		version"
	local common="--socket --tenant --json --timeout --help"
	local spec="--file --id --template --memory-restore --kernel --initramfs --cmdline --vcpus
		--memory --max-vcpus --max-memory --disk --label --no-balloon --network --allow --port --rate
		--vsock --wait"
	local states="creating running paused snapshotting hibernating hibernated waking destroying
		stopped crashed failed"
	local command="" at=0 words="" i

	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-s | --socket | -t | --tenant | --timeout) ((i++)) ;;
		-*) ;;
		*)
			command=${COMP_WORDS[i]}
			at=$i
			break
			;;
		esac
	done

	COMPREPLY=()
	case $prev in
	-s | --socket | --file | --config)
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--state)
		mapfile -t COMPREPLY < <(compgen -W "$states" -- "$cur")
		return
		;;
	--memory-restore)
		words="auto map copy"
		[[ $command == wake ]] || words+=" ondemand"
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
		return
		;;
	--template)
		mapfile -t COMPREPLY < <(compgen -W "$(_cloister_list templates)" -- "$cur")
		return
		;;
	--disk)
		# What follows the '=' is a word of its own to bash, so this is all there is to offer.
		compopt -o nospace 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -W "image= device=" -- "$cur")
		return
		;;
	--network)
		mapfile -t COMPREPLY < <(compgen -W "none internet list" -- "$cur")
		return
		;;
	--restart)
		mapfile -t COMPREPLY < <(compgen -W "never on-failure always" -- "$cur")
		return
		;;
	--wait)
		[[ $command == drain ]] && return
		compopt -o nospace 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -W "tcp= http= vsock= console=" -- "$cur")
		return
		;;
	--rate)
		compopt -o nospace 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -W "rx= tx=" -- "$cur")
		return
		;;
	-t | --tenant | --timeout | --id | --kernel | --initramfs | --cmdline | --vcpus | --memory | \
		--max-vcpus | --max-memory | --label | --allow | --port | --grace | --tail | --send | --since | \
		--vmm-version)
		return
		;;
	esac

	case $command in
	"") words="$commands $common" ;;
	create) words="$spec --restart --no-wait $common" ;;
	drain) words="--hibernate --destroy --wait --grace --no-wait --undo --status $common" ;;
	run) words="$spec --interactive --keep --grace --raw $common" ;;
	ls) words="--state --label $common" ;;
	templates) words="--config --vmm-version $common" ;;
	resize) words="--vcpus --memory $common" ;;
	image) words="--config --replace --verify $common" ;;
	wake) words="--memory-restore $common" ;;
	destroy) words="--grace $common" ;;
	check) words="--repair $common" ;;
	console | logs) words="--follow --tail --send --raw $common" ;;
	events) words="--since $common" ;;
	help) words=$commands ;;
	*) words=$common ;;
	esac
	case $command in
	inspect | pause | resume | power-button | resize | counters | debug | hibernate | wake | destroy | \
		console | logs)
		[[ $cur == -* ]] || words=$(_cloister_list ls)
		;;
	balloon | snapshot | connect)
		# snapshot's second argument is a name that there is not yet, the others' are numbers.
		if [[ $cur != -* ]]; then
			words=""
			((COMP_CWORD == at + 1)) && words=$(_cloister_list ls)
		fi
		;;
	templates)
		if [[ $cur != -* ]]; then
			words="ls inspect rm import"
			if ((COMP_CWORD > at + 1)) && [[ ${COMP_WORDS[at + 1]} == import ]]; then
				compopt -o filenames 2>/dev/null
				mapfile -t COMPREPLY < <(compgen -d -- "$cur")
				return
			fi
			((COMP_CWORD == at + 1)) || words=$(_cloister_list templates)
		fi
		;;
	image)
		if [[ $cur != -* ]]; then
			_cloister_image "$at"
			return
		fi
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

complete -F _cloister cloister
