CREATE TABLE `organizations` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`created_at_ms` integer NOT NULL
);
--> statement-breakpoint
-- What there was before organisations belongs to one.
INSERT INTO `organizations` ("id", "name", "created_at_ms") VALUES ('org-default', 'Default', 0);--> statement-breakpoint
CREATE TABLE `__new_projects` (
	`id` text PRIMARY KEY NOT NULL,
	`organization_id` text NOT NULL,
	`name` text NOT NULL,
	`created_at_ms` integer NOT NULL,
	`archived_at_ms` integer,
	FOREIGN KEY (`organization_id`) REFERENCES `organizations`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
INSERT INTO `__new_projects`("id", "organization_id", "name", "created_at_ms") SELECT "id", 'org-default', "name", "created_at_ms" FROM `projects`;--> statement-breakpoint
CREATE TABLE `__new_keys` (
	`hash` text PRIMARY KEY NOT NULL,
	`id` text NOT NULL,
	`organization_id` text NOT NULL,
	`project_id` text,
	`name` text NOT NULL,
	`prefix` text NOT NULL,
	`scopes` text NOT NULL,
	`created_at_ms` integer NOT NULL,
	`last_used_at_ms` integer,
	`expires_at_ms` integer,
	`revoked_at_ms` integer,
	FOREIGN KEY (`organization_id`) REFERENCES `organizations`(`id`) ON UPDATE no action ON DELETE no action,
	FOREIGN KEY (`project_id`) REFERENCES `__new_projects`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
-- Keys may go on doing what they could. The bootstrap makes its own an admin's.
INSERT INTO `__new_keys`("hash", "id", "organization_id", "project_id", "name", "prefix", "scopes", "created_at_ms", "revoked_at_ms") SELECT "hash", 'key_' || lower(hex(randomblob(12))), 'org-default', "project_id", "name", '', '["inference","inference:priority","tasks:write"]', "created_at_ms", "revoked_at_ms" FROM `keys`;--> statement-breakpoint
DROP TABLE `keys`;--> statement-breakpoint
DROP TABLE `projects`;--> statement-breakpoint
-- The foreign key of keys follows this name.
ALTER TABLE `__new_projects` RENAME TO `projects`;--> statement-breakpoint
ALTER TABLE `__new_keys` RENAME TO `keys`;--> statement-breakpoint
CREATE UNIQUE INDEX `keys_id` ON `keys` (`id`);--> statement-breakpoint
CREATE INDEX `keys_by_time` ON `keys` (`organization_id`,`project_id`,`created_at_ms`,`id`);--> statement-breakpoint
CREATE INDEX `projects_by_time` ON `projects` (`organization_id`,`created_at_ms`,`id`);--> statement-breakpoint
ALTER TABLE `usage` ADD `key_id` text;--> statement-breakpoint
ALTER TABLE `usage` ADD `cached_tokens` integer DEFAULT 0 NOT NULL;
