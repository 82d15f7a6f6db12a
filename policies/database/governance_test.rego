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
}

test_what_the_host_adds_is_incomplete if {
	"governance.input-incomplete" in found([fixtures.drop("/norm")])
	"governance.input-incomplete" in found([fixtures.put("/settings", null)])
}

test_upper_bound_unreadable if {
	every value in ["8", null] {
		found([fixtures.put("/settings/max/cpu/value", value)]) == {"governance.setting-unreadable"}
	}
}

test_lower_bound_unreadable if {
	every value in ["8", {}] {
		found([fixtures.put("/settings/min/retention_days/value", value)]) == {"governance.setting-unreadable"}
	}
}

test_entry_of_a_bound_unreadable if {
	found([fixtures.put("/settings/max/storage", 7)]) == {"governance.setting-unreadable"}
}

test_group_of_settings_unreadable if {
	groups := ["max", "min", "allow", "require"]
	messages := {violation.message |
		some violation in data.database.governance.violations
		violation.id == "governance.setting-unreadable"
	} with input as fixtures.changed([change | some group in groups; change := fixtures.put(concat("/", ["/settings", group]), "text")])
	messages == {message |
		some group in groups
		message := sprintf("the settings %s are no object of names, so they cannot be read; correct data.json of the policies", [group])
	}
}

test_no_bounds if found([fixtures.drop("/settings/max"), fixtures.drop("/settings/min")]) == set()

test_engine_missing if {
	found([fixtures.drop("/object/spec/engine")]) == {"governance.engine-missing"}
	found([fixtures.put("/object/spec/engine", "")]) == {"governance.engine-missing"}
}

test_engine_null if found([fixtures.put("/object/spec/engine", null)]) == {"governance.engine-missing"}

test_engine_not_approved if {
	every engine in ["PostgreSQL", "postgresql "] {
		found([fixtures.put("/object/spec/engine", engine)]) == {"governance.engine"}
	}
}

test_engine_that_is_no_text if {
	every engine in [7, ["postgresql"]] {
		found([fixtures.put("/object/spec/engine", engine)]) == {"governance.engine"}
	}
}

test_engine_approved if found([fixtures.put("/object/spec/engine", "redis")]) == set()

# A list that is missing, or is none, allows nothing.
test_engine_list if {
	found([fixtures.drop("/settings/allow/engines")]) == {"governance.engine"}
	found([fixtures.drop("/settings/allow")]) == {"governance.engine"}
}

test_engine_list_that_is_a_text if {
	found([fixtures.put("/settings/allow/engines/value", "postgresql")]) == {"governance.engine"}
}

test_version_missing if {
	found([fixtures.drop("/object/spec/version")]) == {"governance.version-missing"}
	found([fixtures.put("/object/spec/version", "")]) == {"governance.version-missing"}
}

test_version_unknown if {
	found([fixtures.put("/norm/version", {"major": "9", "known": false})]) == {"governance.version"}
	found([fixtures.drop("/norm/version")]) == {"governance.version"}
}

test_version_perhaps_known if found([fixtures.put("/norm/version/known", "true")]) == {"governance.version"}

test_version_that_is_a_number if found([fixtures.put("/object/spec/version", 16)]) == {"governance.version"}

test_version_in_full if found([fixtures.put("/object/spec/version", "16.14")]) == set()

test_no_version_of_no_engine if {
	found([fixtures.drop("/object/spec/engine"), fixtures.drop("/norm/version")]) == {"governance.engine-missing"}
	found([fixtures.put("/object/spec/engine", ""), fixtures.drop("/norm/version")]) == {"governance.engine-missing"}
}

test_unknown_version_of_no_text if {
	found([fixtures.put("/object/spec/version", ""), fixtures.drop("/norm/version")]) == {"governance.version-missing"}
}

days_left(days) := found([fixtures.put("/norm/version/daysToEndOfLife", days)])

test_end_of_life if days_left(-1) == {"governance.end-of-life"}

test_end_of_life_near if {
	days_left(0) == {"governance.end-of-life-near"}
	days_left(180) == {"governance.end-of-life-near"}
}

test_end_of_life_far if days_left(181) == set()

test_end_of_life_unknown if {
	found([fixtures.drop("/norm/version/daysToEndOfLife")]) == set()
	days_left(null) == set()
}

test_end_of_life_of_no_version if {
	every days in [-1, 1] {
		found([fixtures.put("/object/spec/version", ""), fixtures.put("/norm/version/daysToEndOfLife", days)]) == {"governance.version-missing"}
	}
}

over := fixtures.put("/norm/version/daysToEndOfLife", -1)

test_end_of_life_is_a_denial_in_production if {
	action("governance.end-of-life", [over]) == ["deny"]
	action("governance.end-of-life", [over, fixtures.drop("/norm/environment")]) == ["deny"]
}

test_end_of_life_is_a_warning_elsewhere if {
	action("governance.end-of-life", [over, fixtures.put("/norm/environment/name", "staging")]) == ["warn"]
}

test_end_of_life_near_is_a_warning if {
	action("governance.end-of-life-near", [fixtures.put("/norm/version/daysToEndOfLife", 1)]) == ["warn"]
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
}

test_no_deletion_policy if found([fixtures.drop("/object/spec/deletionPolicy")]) == set()

with_source(source) := found([fixtures.put("/norm/environment/source", source)])

test_environment_guessed if {
	with_source("name") == {"governance.environment-guessed"}
	with_source("default") == {"governance.environment-guessed"}
}

test_environment_of_a_source_that_is_no_text if with_source(7) == {"governance.environment-guessed"}

test_environment_of_the_table if with_source("table") == set()

test_environment_guessed_is_a_warning if {
	found([fixtures.drop("/norm/environment")]) == {"governance.environment-guessed"}
	action("governance.environment-guessed", [fixtures.drop("/norm/environment")]) == ["warn"]
}
