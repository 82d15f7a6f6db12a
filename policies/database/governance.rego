# Which engines and versions may be declared, and whether the namespace says where it belongs.
package database.governance

import rego.v1

import data.database.lib

# Without these parts the other rules would have nothing to look at, and would allow.
violations contains v if {
	usual := [1 | input.object.spec.engine; input.norm.environment; input.settings.max]
	usual == []
	count(unreadable_parts) > 0
	v := {
		"id": "governance.input-incomplete",
		"severity": "critical",
		"action": "deny",
		"path": "spec",
		"message": sprintf("what is to be judged has no readable %s, so it cannot be judged; write spec as an object of fields, or report it to whoever runs the operator", [lib.listing(unreadable_parts)]),
	}
}

unreadable_parts := {"spec", "normalised values", "settings"} - readable_parts

readable_parts contains "spec" if is_object(input.object.spec)

readable_parts contains "normalised values" if is_object(input.norm)

readable_parts contains "settings" if is_object(input.settings)

# A bound that is not a number compares with nothing.
violations contains v if {
	bounds := [bound | some group in ["max", "min"]; bound := input.settings[group][_]]
	numbers := [bound | some bound in bounds; bound.value > true; bound.value < ""]
	numbers != bounds
	v := {
		"id": "governance.setting-unreadable",
		"severity": "critical",
		"action": "deny",
		"path": "spec",
		"message": "a bound of the settings (max, min) is not a number, so nothing can be compared with it; correct data.json of the policies",
	}
}

# A group of another shape than an object holds settings that nobody can read.
violations contains v if {
	some group
	entries := input.settings[group]
	entries < {}
	group in {"max", "min", "allow", "require"}
	v := {
		"id": "governance.setting-unreadable",
		"severity": "critical",
		"action": "deny",
		"path": "spec",
		"message": sprintf("the settings %s are no object of names, so they cannot be read; correct data.json of the policies", [group]),
	}
}

violations contains v if {
	engines := [engine | engine := input.object.spec.engine; not engine in {null, ""}]
	engines == []
	v := {
		"id": "governance.engine-missing",
		"severity": "high",
		"action": "deny",
		"path": "spec.engine",
		"message": sprintf("no engine is declared; declare one of %s", [lib.listing(data.database.lib.allowed_engines)]),
	}
}

has_engine if {
	engine := input.object.spec.engine
	not engine in {null, ""}
}

violations contains v if {
	engine := input.object.spec.engine
	allowed := [name | listed := input.settings.allow.engines.value; is_array(listed); some name in listed]
	not engine in allowed
	has_engine
	v := {
		"id": "governance.engine",
		"severity": "high",
		"action": "deny",
		"path": "spec.engine",
		"message": sprintf("the engine %s is not approved; approved: %s (setting allow.engines, %s); declare one of these", [lib.quote(engine), lib.listing(allowed), engines_level]),
	}
}

engines_level := from if {
	from := lib.level(input.settings.allow.engines)
} else := "set by no level"

violations contains v if {
	versions := [version | version := input.object.spec.version; not version in {null, ""}]
	versions == []
	v := {
		"id": "governance.version-missing",
		"severity": "high",
		"action": "deny",
		"path": "spec.version",
		"message": "no version is declared; declare one that the operator's catalogue has, in quotes",
	}
}

has_version if {
	version := input.object.spec.version
	not version in {null, ""}
}

violations contains v if {
	known := [1 | input.norm.version.known == true; is_string(input.object.spec.version)]
	known == []
	has_engine
	has_version
	v := {
		"id": "governance.version",
		"severity": "high",
		"action": "deny",
		"path": "spec.version",
		"message": sprintf("the operator's catalogue has no version %s of %s; declare one that it has, in quotes", [lib.quote(input.object.spec.version), lib.quote(input.object.spec.engine)]),
	}
}

# The last day of support still counts as supported.
violations contains v if {
	days := input.norm.version.daysToEndOfLife
	days < 0
	is_number(days)
	has_version
	v := {
		"id": "governance.end-of-life",
		"severity": "high",
		"action": end_of_life_action,
		"path": "spec.version",
		"message": sprintf("version %s has had no support from its vendor since %v, so it gets no security fixes; declare a newer version", [lib.quote(input.object.spec.version), end_of_life]),
	}
}

violations contains v if {
	days := input.norm.version.daysToEndOfLife
	days <= 180
	days >= 0
	has_version
	v := {
		"id": "governance.end-of-life-near",
		"severity": "low",
		"action": "warn",
		"path": "spec.version",
		"message": sprintf("version %s gets no more support from its vendor after %v, in %v days; plan the move to a newer version", [lib.quote(input.object.spec.version), end_of_life, days]),
	}
}

default end_of_life := "a day that the catalogue does not name"

end_of_life := input.norm.version.endOfLife if is_string(input.norm.version.endOfLife)

default end_of_life_action := "warn"

end_of_life_action := "deny" if data.database.lib.production

# Losing data on purpose is allowed, but not unnoticed.
violations contains v if {
	input.object.spec.deletionPolicy == "Delete"
	data.database.lib.production
	v := {
		"id": "governance.deletion-policy",
		"severity": "medium",
		"action": "warn",
		"path": "spec.deletionPolicy",
		"message": "deletionPolicy Delete in production deletes the data for ever together with the Database; set Retain unless that is what you want",
	}
}

# A name is only a guess, and the bounds depend on it.
violations contains v if {
	not input.norm.environment.source == "label"
	not input.norm.environment.source == "table"
	v := {
		"id": "governance.environment-guessed",
		"severity": "low",
		"action": "warn",
		"path": "metadata.namespace",
		"message": sprintf("the environment %s was only guessed; have an administrator label the namespace with intent.example.com/environment", [lib.quote(data.database.lib.environment)]),
	}
}
