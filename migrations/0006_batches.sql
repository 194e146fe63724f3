CREATE TABLE `batches` (
	`project_id` text NOT NULL,
	`id` text NOT NULL,
	`object` text NOT NULL,
	`revision` integer NOT NULL,
	`created_at_ms` integer NOT NULL,
	PRIMARY KEY(`project_id`, `id`)
);
--> statement-breakpoint
CREATE INDEX `batches_by_time` ON `batches` (`project_id`,`created_at_ms`,`id`);