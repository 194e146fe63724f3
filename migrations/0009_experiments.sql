CREATE TABLE `experiments` (
	`project_id` text NOT NULL,
	`id` text NOT NULL,
	`summary` text NOT NULL,
	`rows` text NOT NULL,
	`created_at_ms` integer NOT NULL,
	PRIMARY KEY(`project_id`, `id`)
);
--> statement-breakpoint
CREATE INDEX `experiments_by_time` ON `experiments` (`project_id`,`created_at_ms`,`id`);