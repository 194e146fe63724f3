CREATE TABLE `promotions` (
	`project_id` text NOT NULL,
	`task` text NOT NULL,
	`sequence` integer NOT NULL,
	`version` integer NOT NULL,
	`previous` integer,
	`cause` text NOT NULL,
	`created_at_ms` integer NOT NULL,
	PRIMARY KEY(`project_id`, `task`, `sequence`)
);
--> statement-breakpoint
-- What is live went live once; what was live before it is not known.
INSERT INTO `promotions` (`project_id`, `task`, `sequence`, `version`, `previous`, `cause`, `created_at_ms`) SELECT `project_id`, `name`, 1, `live_version`, NULL, 'publish', `updated_at_ms` FROM `tasks` WHERE `live_version` IS NOT NULL;--> statement-breakpoint
ALTER TABLE `tasks` ADD `revision` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `versions` ADD `tags` text;--> statement-breakpoint
ALTER TABLE `versions` ADD `notes` text;--> statement-breakpoint
ALTER TABLE `versions` ADD `retires_at_ms` integer;