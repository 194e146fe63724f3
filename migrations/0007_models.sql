ALTER TABLE `tasks` ADD `model` text DEFAULT '' NOT NULL;
--> statement-breakpoint
-- A task belongs to the base model of its live version; without one, of its newest.
UPDATE `tasks` SET `model` = coalesce(
	(SELECT v.`model` FROM `versions` v WHERE v.`project_id` = `tasks`.`project_id` AND v.`task` = `tasks`.`name` AND v.`number` = `tasks`.`live_version`),
	(SELECT v.`model` FROM `versions` v WHERE v.`project_id` = `tasks`.`project_id` AND v.`task` = `tasks`.`name` ORDER BY v.`number` DESC LIMIT 1),
	''
);
