# shellcheck shell=bash
# Which extras of setup.cfg are installed; for install.sh and deb.sh, which say where the source is.

# add_extras HAVE CHANGES: prints HAVE with those of CHANGES added, and those with a - in front taken away.
add_extras() {
  local have=$1 name known
  known=$(known_extras)
  for name in ${2//,/ }; do
    case " $known " in
      *" ${name#-} "*) ;;
      *) echo "EXTRAS: there is no extra ${name#-}. There are: $known" >&2 && return 1 ;;
    esac
    have=$(without "$have" "${name#-}")
    [ "${name#-}" != "$name" ] || have=$have,$name
  done
  echo "${have#,}"
}

# without HAVE NAME: prints HAVE, but for NAME.
without() {
  local have=,$1,
  have=${have//,$2,/,}
  have=${have#,}
  echo "${have%,}"
}

# What an owner may choose: those of the tests are none of it.
known_extras() {
  # shellcheck disable=SC2154
  sed -n '/^\[options.extras_require\]/,/^\[tool/s/^\([a-z]*\) =$/\1/p' "$source/setup.cfg" | grep -vx test | xargs
}
