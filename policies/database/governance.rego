# Which engines and versions may be declared, and whether the namespace says where it belongs.
package database.governance

import rego.v1

import data.database.lib

# Without these parts the other rules would have nothing to look at, and would allow.
violations contains {
	"id": "governance.input-incomplete",
	"severity": "critical",
	"action": "deny",
	"path": "spec",
	"message": sprintf("what is to be judged has no readable %s, so it cannot be judged; write spec as an object of fields, or report it to whoever runs the operator", [lib.listing(unreadable_parts)]),
} if {
	count(unreadable_parts) > 0
}

unreadable_parts := {"spec", "normalised values", "settings"} - readable_parts

readable_parts contains "spec" if is_object(input.object.spec)

readable_parts contains "normalised values" if is_object(input.norm)

readable_parts contains "settings" if is_object(input.settings)

# A bound that is not a number compares with nothing.
violations contains {
	"id": "governance.setting-unreadable",
	"severity": "critical",
	"action": "deny",
	"path": "spec",
	"message": "a bound of the settings (max, min) is not a number, so nothing can be compared with it; correct data.json of the policies",
} if {
	some bounds in [lib.maximum, lib.minimum]
	readable := [1 | some bound in bounds; is_number(bound.value)]
	count(readable) != count(bounds)
}

# A group of another shape than an object holds settings that nobody can read.
violations contains {
	"id": "governance.setting-unreadable",
	"severity": "critical",
	"action": "deny",
	"path": "spec",
	"message": sprintf("the settings %s are no object of names, so they cannot be read; correct data.json of the policies", [group]),
} if {
	some group in ["max", "min", "allow", "require"]
	entries := input.settings[group]
	not is_object(entries)
}

violations contains {
	"id": "governance.engine-missing",
	"severity": "high",
	"action": "deny",
	"path": "spec.engine",
	"message": sprintf("no engine is declared; declare one of %s", [lib.listing(lib.allowed_engines)]),
} if {
	not has_engine
}

has_engine if not object.get(lib.spec, "engine", null) in {null, ""}

violations contains {
	"id": "governance.engine",
	"severity": "high",
	"action": "deny",
	"path": "spec.engine",
	"message": sprintf("the engine %s is not approved; approved: %s (setting allow.engines, %s); declare one of these", [lib.quote(lib.spec.engine), lib.listing(lib.allowed_engines), engines_level]),
} if {
	has_engine
	not lib.spec.engine in lib.allowed_engines
}

engines_level := lib.level(entry) if {
	entry := input.settings.allow.engines
} else := "set by no level"

violations contains {
	"id": "governance.version-missing",
	"severity": "high",
	"action": "deny",
	"path": "spec.version",
	"message": "no version is declared; declare one that the operator's catalogue has, in quotes",
} if {
	not has_version
}

has_version if not object.get(lib.spec, "version", null) in {null, ""}

violations contains {
	"id": "governance.version",
	"severity": "high",
	"action": "deny",
	"path": "spec.version",
	"message": sprintf("the operator's catalogue has no version %s of %s; declare one that it has, in quotes", [lib.quote(lib.spec.version), lib.quote(lib.spec.engine)]),
} if {
	has_engine
	has_version
	not version_known
}

version_known if {
	is_string(lib.spec.version)
	lib.norm.version.known == true
}

# The last day of support still counts as supported.
violations contains {
	"id": "governance.end-of-life",
	"severity": "high",
	"action": end_of_life_action,
	"path": "spec.version",
	"message": sprintf("version %s has had no support from its vendor since %v, so it gets no security fixes; declare a newer version", [lib.quote(lib.spec.version), end_of_life]),
} if {
	has_version
	days_left < 0
}

violations contains {
	"id": "governance.end-of-life-near",
	"severity": "low",
	"action": "warn",
	"path": "spec.version",
	"message": sprintf("version %s gets no more support from its vendor after %v, in %v days; plan the move to a newer version", [lib.quote(lib.spec.version), end_of_life, days_left]),
} if {
	has_version
	days_left >= 0
	days_left <= warn_days_before_end_of_life
}

warn_days_before_end_of_life := 180

days_left := days if {
	days := lib.norm.version.daysToEndOfLife
	is_number(days)
}

default end_of_life := "a day that the catalogue does not name"

end_of_life := lib.norm.version.endOfLife if is_string(lib.norm.version.endOfLife)

default end_of_life_action := "warn"

end_of_life_action := "deny" if lib.production

# Losing data on purpose is allowed, but not unnoticed.
violations contains {
	"id": "governance.deletion-policy",
	"severity": "medium",
	"action": "warn",
	"path": "spec.deletionPolicy",
	"message": "deletionPolicy Delete in production deletes the data for ever together with the Database; set Retain unless that is what you want",
} if {
	lib.production
	lib.spec.deletionPolicy == "Delete"
}

# A name is only a guess, and the bounds depend on it.
violations contains {
	"id": "governance.environment-guessed",
	"severity": "low",
	"action": "warn",
	"path": "metadata.namespace",
	"message": sprintf("the environment %s was only guessed; have an administrator label the namespace with intent.example.com/environment", [lib.quote(lib.environment)]),
} if {
	not environment_declared
}

environment_declared if lib.norm.environment.source in {"label", "table"}
