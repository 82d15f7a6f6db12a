package database.governance_test

import rego.v1

import data.database.fixtures_test as fixtures

found(changes) := ids if {
	ids := {violation.id | some violation in data.database.governance.violations} with input as fixtures.changed(changes)
}

# ACTION of the one violation with this id.
action(id, changes) := actions if {
	actions := [violation.action |
		some violation in data.database.governance.violations
		violation.id == id
	] with input as fixtures.changed(changes)
}

test_good_is_silent if found([]) == set()

test_input_incomplete if {
	"governance.input-incomplete" in found([fixtures.put("/object/spec", [])])
	"governance.input-incomplete" in found([fixtures.put("/object", "text")])
	"governance.input-incomplete" in found([fixtures.drop("/norm")])
	"governance.input-incomplete" in found([fixtures.put("/settings", null)])
}

test_setting_unreadable if {
	every value in ["8", null, [], {}] {
		found([fixtures.put("/settings/max/cpu/value", value)]) == {"governance.setting-unreadable"}
		found([fixtures.put("/settings/min/retention_days/value", value)]) == {"governance.setting-unreadable"}
	}
	every group in ["max", "min", "require"] {
		found([fixtures.put(concat("/", ["/settings", group]), "text")]) == {"governance.setting-unreadable"}
	}
	found([fixtures.put("/settings/max/storage", 7)]) == {"governance.setting-unreadable"}
	found([fixtures.drop("/settings/max"), fixtures.drop("/settings/min")]) == set()
}

test_engine if {
	found([fixtures.drop("/object/spec/engine")]) == {"governance.engine-missing"}
	found([fixtures.put("/object/spec/engine", "")]) == {"governance.engine-missing"}
	found([fixtures.put("/object/spec/engine", null)]) == {"governance.engine-missing"}
	every engine in ["cassandra", "PostgreSQL", "postgresql ", 7, ["postgresql"]] {
		found([fixtures.put("/object/spec/engine", engine)]) == {"governance.engine"}
	}
	found([fixtures.put("/object/spec/engine", "redis")]) == set()
}

# A list that is missing, or is none, allows nothing.
test_engine_list if {
	found([fixtures.drop("/settings/allow/engines")]) == {"governance.engine"}
	found([fixtures.drop("/settings/allow")]) == {"governance.engine"}
	found([fixtures.put("/settings/allow/engines/value", "postgresql")]) == {"governance.engine"}
}

test_version if {
	found([fixtures.drop("/object/spec/version")]) == {"governance.version-missing"}
	found([fixtures.put("/object/spec/version", "")]) == {"governance.version-missing"}
	found([fixtures.put("/object/spec/version", 16)]) == {"governance.version"}
	found([fixtures.put("/norm/version", {"major": "9", "known": false})]) == {"governance.version"}
	found([fixtures.drop("/norm/version")]) == {"governance.version"}
	found([fixtures.put("/norm/version/known", "true")]) == {"governance.version"}
	found([fixtures.put("/object/spec/version", "16.14")]) == set()
}

test_no_version_of_no_engine if {
	found([fixtures.drop("/object/spec/engine"), fixtures.drop("/norm/version")]) == {"governance.engine-missing"}
	found([fixtures.put("/object/spec/engine", ""), fixtures.drop("/norm/version")]) == {"governance.engine-missing"}
	found([fixtures.put("/object/spec/version", ""), fixtures.drop("/norm/version")]) == {"governance.version-missing"}
}

test_end_of_life if {
	every days, expected in {
		"-400": "governance.end-of-life",
		"-1": "governance.end-of-life",
		"0": "governance.end-of-life-near",
		"180": "governance.end-of-life-near",
		"181": "silent",
	} {
		found([fixtures.put("/norm/version/daysToEndOfLife", to_number(days))]) == {expected} - {"silent"}
	}
	found([fixtures.drop("/norm/version/daysToEndOfLife")]) == set()
	found([fixtures.put("/norm/version/daysToEndOfLife", null)]) == set()
	every days in [-1, 1] {
		found([fixtures.put("/object/spec/version", ""), fixtures.put("/norm/version/daysToEndOfLife", days)]) == {"governance.version-missing"}
	}
}

test_end_of_life_is_a_denial_only_in_production if {
	over := fixtures.put("/norm/version/daysToEndOfLife", -1)
	near := fixtures.put("/norm/version/daysToEndOfLife", 1)
	staging := fixtures.put("/norm/environment/name", "staging")
	action("governance.end-of-life", [over]) == ["deny"]
	action("governance.end-of-life", [over, staging]) == ["warn"]
	action("governance.end-of-life", [over, fixtures.drop("/norm/environment")]) == ["deny"]
	action("governance.end-of-life-near", [near]) == ["warn"]
}

test_end_of_life_says_when if {
	messages := {violation.message | some violation in data.database.governance.violations} with input as fixtures.changed([fixtures.put("/norm/version/daysToEndOfLife", -1)])
	messages == {"version \"16\" has had no support from its vendor since 2028-11-09, so it gets no security fixes; declare a newer version"}
}

test_end_of_life_without_a_date if {
	messages := {violation.message | some violation in data.database.governance.violations} with input as fixtures.changed([
		fixtures.put("/norm/version/daysToEndOfLife", 9),
		fixtures.drop("/norm/version/endOfLife"),
	])
	messages == {"version \"16\" gets no more support from its vendor after a day that the catalogue does not name, in 9 days; plan the move to a newer version"}
}

test_deletion_policy if {
	delete := fixtures.put("/object/spec/deletionPolicy", "Delete")
	action("governance.deletion-policy", [delete]) == ["warn"]
	found([delete, fixtures.put("/norm/environment/name", "development")]) == set()
	found([fixtures.drop("/object/spec/deletionPolicy")]) == set()
}

test_environment_guessed if {
	every source in ["name", "default", "", 7] {
		found([fixtures.put("/norm/environment/source", source)]) == {"governance.environment-guessed"}
	}
	found([fixtures.drop("/norm/environment")]) == {"governance.environment-guessed"}
	found([fixtures.put("/norm/environment/source", "table")]) == set()
	action("governance.environment-guessed", [fixtures.drop("/norm/environment")]) == ["warn"]
}
